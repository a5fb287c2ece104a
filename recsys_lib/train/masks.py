"""What pruning has left out must be the same on every rank, at every step."""

from __future__ import annotations

import zlib

import horovod.tensorflow as hvd
import numpy as np
from numpy.typing import NDArray

from recsys_lib.errors import RanksError
from recsys_lib.model.network import Network
from recsys_lib.model.tensorflow import tf
from recsys_lib.train.lesson import Pruner

BITS = 32


def marks_of(network: Network, pruner: Pruner | None) -> NDArray[np.float32]:
    """A digest of the masks as BITS zeros and ones, which go with the gradients: a collective of
    their own would let all ranks wait once more in each step."""
    if pruner is None or hvd.size() == 1:
        return np.zeros(BITS, np.float32)
    digest = np.array([_digest(_masks(network))], ">u4")
    return np.unpackbits(digest.view(np.uint8)).astype(np.float32)


def check_marks(mean: NDArray[np.float32]) -> None:
    """Of what the ranks' `marks_of` are in the mean. Raises RanksError on every rank where they
    differ: then some bit is not the same on all, so neither 0 nor 1."""
    apart = np.minimum(mean, 1 - mean) > 0.5 / hvd.size()
    if apart.any():
        raise _differ()


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
    if len(_gathered(_digest(arrays))) > 1:
        raise _differ()


def _digest(arrays: dict[str, np.ndarray]) -> int:
    digest = 0
    for name in sorted(arrays):
        digest = zlib.crc32(np.packbits(arrays[name] != 0).tobytes(), digest)
    return digest


def _differ() -> RanksError:
    return RanksError(
        f"masks must be equal on all {hvd.size()} ranks, and are not; "
        "the increment is not saved: run it again, and report it if it happens twice"
    )
