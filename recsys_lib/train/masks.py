"""What pruning has left out must be the same on every rank, at every step."""

from __future__ import annotations

import zlib

import horovod.tensorflow as hvd
import numpy as np

from recsys_lib.errors import RanksError
from recsys_lib.model.network import Network
from recsys_lib.model.tensorflow import tf
from recsys_lib.train.lesson import Pruner


def check_masks(network: Network, pruner: Pruner | None) -> None:
    """After a step. Raises RanksError on every rank where they differ."""
    if pruner is not None:
        check_equal_on_all_ranks(_masks(network))


def by_layer(points: list[tuple[int, dict[str, float]]]) -> dict[str, list[tuple[int, float]]]:
    names = points[0][1] if points else {}
    return {name: [(step, shares[name]) for step, shares in points] for name in names}


def _masks(network: Network) -> dict[str, np.ndarray]:
    return {
        f"{name}/{place}": mask.numpy()
        for name, layer in network.layers.items()
        for place, (_, mask, _) in enumerate(getattr(layer, "pruning_vars", []))
    }


def _gathered(number: int) -> set[int]:
    """The different numbers that the ranks have."""
    return set(hvd.allgather(tf.constant([number], tf.int64)).numpy().tolist())


def check_equal_on_all_ranks(arrays: dict[str, np.ndarray]) -> None:
    """Zeros must be at the same places everywhere, or the saved masks are one rank's opinion."""
    digest = 0
    for name in sorted(arrays):
        digest = zlib.crc32(np.packbits(arrays[name] != 0).tobytes(), digest)
    kinds = len(_gathered(digest))
    if kinds > 1:
        raise RanksError(
            f"masks must be equal on all {hvd.size()} ranks, got {kinds} kinds; "
            "the increment is not saved: run it again, and report it if it happens twice"
        )
