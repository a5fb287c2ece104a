"""Optimisers whose slots have stable names, so that they grow with the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.network import HEADS
from recsys_lib.model.tensorflow import keras, tf

Arrays = dict[str, NDArray[np.float32]]
SLOTS = {"adam": ("m", "v"), "sgd": ("momentum",)}
EPSILON = 1e-6
"""Adam divides a gradient by its own size. Where an input is the same for all items its weights'
gradients are nothing but rounding (1e-8), and must not become steps: the day the input varies, the
model would answer with noise. Gradients that teach are of 1e-5 and more, but for the rarest rows of
tables."""


class _Paced:
    """Dense variables learn at multiples of the rate."""

    def __init__(self, *args: Any, paces: Mapping[Any, float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._paces = paces

    def _resource_apply_dense(
        self, grad: tf.Tensor, var: tf.Variable, apply_state: Any = None
    ) -> tf.Operation:
        pace = self._paces.get(var.ref())
        if pace is not None:
            place = (var.device, var.dtype.base_dtype)
            state = apply_state[place]
            apply_state = {**apply_state, place: {**state, "lr_t": pace * state["lr_t"]}}
        return super()._resource_apply_dense(grad, var, apply_state)  # type: ignore[misc]


class PacedSGD(_Paced, keras.optimizers.legacy.SGD):  # type: ignore[misc]
    """Stochastic gradient descent with momentum."""


class LazyAdam(_Paced, keras.optimizers.legacy.Adam):  # type: ignore[misc]
    """Adam that moves only the rows of a table that a step has seen.

    Plain Adam keeps moving every row by its old momentum; rows that an increment does not touch
    would drift. (The lazy variant of Kingma and Ba 2015, as in tensorflow-addons.)
    """

    def _resource_apply_sparse(
        self, grad: tf.Tensor, var: tf.Variable, indices: tf.Tensor, apply_state: Any = None
    ) -> tf.Operation:
        state = (apply_state or {})[(var.device, var.dtype.base_dtype)]
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        beta_1, beta_2 = state["beta_1_t"], state["beta_2_t"]
        m_rows = beta_1 * tf.gather(m, indices) + (1 - beta_1) * grad
        v_rows = beta_2 * tf.gather(v, indices) + (1 - beta_2) * tf.square(grad)
        step = state["lr"] * m_rows / (tf.sqrt(v_rows) + state["epsilon"])
        return tf.group(
            self._resource_scatter_update(m, indices, m_rows),
            self._resource_scatter_update(v, indices, v_rows),
            self._resource_scatter_add(var, indices, -step),
        )

    def _resource_scatter_update(self, x: tf.Variable, i: tf.Tensor, v: tf.Tensor) -> tf.Operation:
        return x.scatter_update(tf.IndexedSlices(v, i))


def optimizer(
    kind: str, learning_rate: tf.Variable, paces: Mapping[Any, float] | None = None
) -> keras.optimizers.legacy.Optimizer:
    """The optimiser of this name; `learning_rate` is assigned anew every step, and what has a pace
    learns at so many times that."""
    if kind == "sgd":
        return PacedSGD(learning_rate, momentum=0.9, paces=paces or {})
    return LazyAdam(learning_rate, beta_2=0.99, epsilon=EPSILON, paces=paces or {})


def paces_of(variables: Mapping[str, tf.Variable], heads_rate: float) -> dict[Any, float]:
    """What ranks a user's past and near items learns at `heads_rate` times the rate: a few thousand
    weights that all items share, read off numbers that vary much. At the rate of all others one
    lesson is too short for them."""
    kernels = {f"{layer}/kernel" for layers in HEADS.values() for layer in layers}
    return {v.ref(): heads_rate for name, v in variables.items() if name in kernels}


def save_slots(kind: str, built: Any, variables: dict[str, tf.Variable]) -> Arrays:
    """Slots by `variable|slot`, and `step`."""
    arrays = {
        f"{name}|{slot}": built.get_slot(variable, slot).numpy()
        for name, variable in variables.items()
        for slot in SLOTS[kind]
    }
    return {**arrays, "step": np.float32(built.iterations.numpy())}


def load_slots(kind: str, built: Any, variables: dict[str, tf.Variable], arrays: Arrays) -> None:
    """Set the slots that `arrays` has; the others stay zero."""
    built._create_all_weights(list(variables.values()))
    for name, variable in variables.items():
        for slot in SLOTS[kind]:
            if (key := f"{name}|{slot}") in arrays:
                built.get_slot(variable, slot).assign(arrays[key])
    if "step" in arrays:
        built.iterations.assign(int(arrays["step"]))
