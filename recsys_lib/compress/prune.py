"""Magnitude pruning in the fine-tune, by tensorflow-model-optimization.

The polynomial schedule of Zhu and Gupta 2017 ("To prune, or not to prune") runs over each
increment's steps, from the sparsity that the parent already has to the one that is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.network import HEADS
from recsys_lib.model.quiet import without
from recsys_lib.model.tensorflow import keras, tf
from recsys_lib.settings import PruneSettings

# It looks for a class in Keras 3 that is not there, and goes on; to load that takes three seconds.
with without("keras"):
    import tensorflow_model_optimization as tfmot

# Output layers of a single number: too few weights to be worth a mask.
SINGLE = "gate", "gate_user", "popularity", "gap", "worth", "value"
DENSE = *SINGLE, *(layers[-1] for layers in HEADS.values())
INNER = "copy_item", *(name for layers in HEADS.values() for name in layers[:-1])


@dataclass(frozen=True)
class MagnitudePruner:
    """`start` is the parent's sparsity, `steps` the length of this fine-tune."""

    settings: PruneSettings
    steps: int
    start: float = 0.0

    @property
    def final(self) -> float:
        """Sparsity at the end of this fine-tune: a large step at once would cost quality."""
        return min(self.settings.final_sparsity, self.start + self.settings.step)

    def wrap(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """The layer with a mask, or as it is where settings leave it dense."""
        if not self._prunes(layer.name, isinstance(layer, keras.layers.Embedding)):
            return layer
        # What the parent has pruned is masked from the first step; it would grow back otherwise.
        begin = 0 if self.start else int(self.settings.begin * self.steps)
        end = max(begin + 1, int(self.settings.end * self.steps))
        schedule = tfmot.sparsity.keras.PolynomialDecay(
            initial_sparsity=min(self.start, self.final),
            final_sparsity=self.final,
            begin_step=begin,
            end_step=end,
            frequency=min(self.settings.frequency, max(1, (end - begin) // 4)),
        )
        return tfmot.sparsity.keras.prune_low_magnitude(
            layer, pruning_schedule=schedule, **self._pattern(layer)
        )

    def at_step(self, network: Any, step: int) -> None:
        """Tell every mask which step of the schedule it is."""
        for layer in network.layers.values():
            if hasattr(layer, "pruning_step"):
                layer.pruning_step.assign(step)

    def resume(self, network: Any) -> None:
        """Masks as the weights were left: what was zero stays so, also when the schedule is over
        and no step would make the masks anew."""
        for layer in network.layers.values():
            for weight, mask, _ in getattr(layer, "pruning_vars", []):
                mask.assign(tf.cast(weight != 0, mask.dtype))

    def sparsity(self, arrays: dict[str, NDArray[np.float32]]) -> dict[str, float]:
        """Share of zeros of every pruned variable, and of all of them as `total`."""
        pruned = {
            name: array
            for name, array in arrays.items()
            if name.endswith(("/kernel", "/embeddings"))
            and self._prunes(name.split("/")[0], name.endswith("/embeddings"))
        }
        shares = {name: float((array == 0).mean()) for name, array in pruned.items()}
        zeros = sum(float((array == 0).sum()) for array in pruned.values())
        return {**shares, "total": zeros / max(1, sum(a.size for a in pruned.values()))}

    def _pattern(self, layer: keras.layers.Layer) -> dict[str, Any]:
        """2:4 is what NVIDIA's sparse tensor cores read: two zeros among every four inputs."""
        if self.settings.pattern == "single" or isinstance(layer, keras.layers.Embedding):
            return {}
        if self.settings.pattern == "2:4":
            return {"sparsity_m_by_n": (2, 4)}
        if layer.units <= self.settings.block[1]:  # one block wide, which tfmot cannot pool
            return {}
        return {"block_size": self.settings.block, "block_pooling_type": "AVG"}

    def _prunes(self, name: str, is_table: bool) -> bool:
        if is_table:
            return self.settings.embeddings
        return name not in DENSE and (self.settings.heads or name not in INNER)
