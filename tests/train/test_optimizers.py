from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from recsys_lib.model.bundle import Bundle
from recsys_lib.model.network import Network
from recsys_lib.train.optimizers import (
    EPSILON,
    LazyAdam,
    load_slots,
    optimizer,
    paces_of,
    save_slots,
)
from tests.model.tiny import catalog_of, learned_bundle, spec_for

Step = tuple[list[int], list[list[float]]]
"""Rows of a table that a batch has seen, and the gradients of these."""
STEPS: list[Step] = [
    ([0, 2], [[1.0, -2.0], [0.5, 0.5]]),
    ([2], [[-1.0, 3.0]]),
    ([2, 3], [[0.1, 0.1], [4.0, 0.0]]),
]


def reference(
    rows: int, steps: list[Step], rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, first and second moments after Adam that looks at the seen rows only."""
    w, m, v = (np.zeros((rows, 2)) for _ in range(3))
    for t, (seen, gradient) in enumerate(steps, start=1):
        g = np.array(gradient)
        m[seen] = 0.9 * m[seen] + 0.1 * g
        v[seen] = 0.99 * v[seen] + 0.01 * g**2
        corrected = rate * np.sqrt(1 - 0.99**t) / (1 - 0.9**t)
        w[seen] -= corrected * m[seen] / (np.sqrt(v[seen]) + EPSILON)
    return w, m, v


def apply(built: LazyAdam, variable: tf.Variable, step: Step) -> None:
    seen, gradient = step
    slices = tf.IndexedSlices(tf.constant(gradient), tf.constant(seen), variable.shape)
    built.apply_gradients([(slices, variable)])


def test_rows_that_a_step_saw_move_as_adam_says_and_the_others_stay() -> None:
    variable = tf.Variable(tf.zeros([5, 2]))
    built = optimizer("adam", tf.Variable(0.1))
    for step in STEPS:
        apply(built, variable, step)
    w, m, v = reference(5, STEPS, 0.1)
    np.testing.assert_allclose(variable.numpy(), w, atol=1e-5)
    np.testing.assert_allclose(built.get_slot(variable, "m").numpy(), m, atol=1e-6)
    np.testing.assert_allclose(built.get_slot(variable, "v").numpy(), v, atol=1e-6)
    assert not w[[1, 4]].any()


def test_gradients_that_are_only_rounding_do_not_become_steps() -> None:
    variable, told = tf.Variable(tf.zeros([2])), tf.constant([1e-8, 1e-4])
    built = optimizer("adam", tf.Variable(0.1))
    for _ in range(10):
        built.apply_gradients([(told, variable)])
    noise, learned = -variable.numpy()
    assert noise < 0.02 * learned


def test_a_row_with_old_momentum_stays_when_a_step_does_not_see_it() -> None:
    variable = tf.Variable(tf.zeros([5, 2]))
    built = optimizer("adam", tf.Variable(0.1))
    apply(built, variable, STEPS[0])
    row, slot = variable[0].numpy(), built.get_slot(variable, "m")[0].numpy()
    assert slot.any()
    apply(built, variable, STEPS[1])
    np.testing.assert_array_equal(variable[0], row)
    np.testing.assert_array_equal(built.get_slot(variable, "m")[0], slot)


def test_an_item_that_stands_twice_in_a_step_counts_with_its_summed_gradient() -> None:
    once, twice = tf.Variable(tf.zeros([2, 2])), tf.Variable(tf.zeros([2, 2]))
    apply(optimizer("adam", tf.Variable(0.1)), once, ([1], [[3.0, 3.0]]))
    apply(optimizer("adam", tf.Variable(0.1)), twice, ([1, 1], [[1.0, 2.0], [2.0, 1.0]]))
    np.testing.assert_allclose(once.numpy(), twice.numpy(), atol=1e-6)


def test_a_learning_rate_that_is_assigned_anew_is_obeyed() -> None:
    rate, variable = tf.Variable(0.1), tf.Variable(tf.zeros([5, 2]))
    built = optimizer("adam", rate)
    rate.assign(0.0)
    apply(built, variable, STEPS[0])
    assert not variable.numpy().any()


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_heads_move_as_if_all_learned_at_their_rate_and_the_others_as_ever(kind: str) -> None:
    def learned(rate: float, heads_rate: float) -> dict[str, np.ndarray]:
        names = ("copy_hidden/kernel", "gate/kernel")
        variables = {name: tf.Variable(tf.ones([3])) for name in names}
        built = optimizer(kind, tf.Variable(rate), paces_of(variables, heads_rate))
        for slope in (2.0, -0.5, 1.0):
            gradients = [tf.fill([3], slope)] * 2
            built.apply_gradients(zip(gradients, variables.values(), strict=True))
        return {name: variable.numpy() for name, variable in variables.items()}

    mixed, slow, fast = learned(0.01, 3.0), learned(0.01, 1.0), learned(0.03, 1.0)
    np.testing.assert_allclose(mixed["copy_hidden/kernel"], fast["copy_hidden/kernel"], rtol=1e-6)
    np.testing.assert_allclose(mixed["gate/kernel"], slow["gate/kernel"], rtol=1e-6)


def test_the_heads_that_learn_at_a_rate_of_their_own_are_in_every_network() -> None:
    variables = Network(spec_for(catalog_of(2)), seed=1).variables()
    assert len(paces_of(variables, 3.0)) == 6


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_slots_and_step_survive_save_and_load_by_name(kind: str) -> None:
    def fresh() -> dict[str, tf.Variable]:
        return {"b/table": tf.Variable(tf.zeros([5, 2])), "a/table": tf.Variable(tf.zeros([5, 2]))}

    variables, rate = fresh(), tf.Variable(0.1)
    built = optimizer(kind, rate)
    for step in STEPS[:2]:
        apply(built, variables["b/table"], step)
        apply(built, variables["a/table"], (step[0], (-np.array(step[1])).tolist()))
    kept = save_slots(kind, built, variables)
    again = dict(reversed(fresh().items()))
    for name, variable in variables.items():
        again[name].assign(variable)
    resumed = optimizer(kind, tf.Variable(0.1))
    load_slots(kind, resumed, again, kept)
    for name, variable in variables.items():
        apply(built, variable, STEPS[2])
        apply(resumed, again[name], STEPS[2])
    # Each apply counts a step for all variables, so compare the first one only.
    np.testing.assert_allclose(again["b/table"].numpy(), variables["b/table"].numpy(), atol=1e-6)
    assert kept["step"] == 4


def test_slots_of_a_grown_model_are_the_old_ones_with_zero_rows(tmp_path: Path) -> None:
    network = Network(spec_for(catalog_of(2)), seed=1)
    built, variables = optimizer("adam", tf.Variable(0.1)), network.variables()
    load_slots("adam", built, variables, {})
    gradients = [tf.ones_like(variable) for variable in variables.values()]
    built.apply_gradients(zip(gradients, variables.values(), strict=True))
    bundle = learned_bundle(catalog_of(2))
    whole = Bundle(**{**vars(bundle), "optimizer": save_slots("adam", built, variables)})
    whole.save(tmp_path / "model")
    grown = Bundle.load(tmp_path / "model").grown(catalog_of(4))
    larger = Network(spec_for(catalog_of(4)), seed=1)
    resumed = optimizer("adam", tf.Variable(0.1))
    load_slots("adam", resumed, larger.variables(), grown.optimizer)
    slot = resumed.get_slot(larger.variables()["items/embeddings"], "m").numpy()
    np.testing.assert_allclose(slot[:3], np.full((3, 8), 0.1), atol=1e-6)
    assert not slot[3:].any()
    assert int(resumed.iterations.numpy()) == 1
