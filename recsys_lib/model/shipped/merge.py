"""The best of a few items that are scored by themselves and of what a search finds beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.histories import Floats, Ints
from recsys_lib.model.ragged import pad_right

Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class Few:
    """Past items of all users, then near items of all, each with its whole score."""

    items: NDArray[np.int32]
    scores: Floats
    row: Offsets
    copied: Offsets
    near: Offsets

    def table(self) -> tuple[Ints, Floats]:
        """[B, ...], -inf where there is nothing."""
        if len(self.copied) == 2:
            return self.items[None], self.scores[None]
        cut = self.copied[-1]
        items, scores = (
            np.concatenate(
                [padded(values[:cut], self.copied, fill), padded(values[cut:], self.near, fill)], 1
            )
            for fill, values in ((0.0, self.items), (-np.inf, self.scores))
        )
        return items.astype(np.int32), scores.astype(np.float32)


def padded(values: NDArray[Any], offsets: Offsets, fill: float) -> NDArray[Any]:
    return pad_right(values, offsets, max(1, int(np.diff(offsets).max())), fill)


def without(marks: NDArray[np.bool_], rows: Any, found: Any, scores: Floats) -> Floats:
    return np.where(marks[rows[:, None], found], -np.inf, scores)


def widened(
    found: Any, scores: Floats, rows: Any, deep: tuple[Any, Floats], marks: NDArray[np.bool_]
) -> tuple[Any, Floats]:
    """Wider lists for some rows; the others keep theirs, padded."""
    more = max(0, deep[0].shape[1] - found.shape[1])
    found = np.pad(found, [(0, 0), (0, more)])
    scores = np.pad(scores, [(0, 0), (0, more)], constant_values=-np.inf)
    found[rows, : deep[0].shape[1]] = deep[0]
    scores[rows, : deep[0].shape[1]] = without(marks, rows, deep[0], deep[1])
    return found, scores


def best_of(items: Any, scores: Floats, k: int) -> tuple[Ints, Floats]:
    """The k best of each row, best first; ties by the smaller item."""
    if scores.shape[1] > k:
        chosen = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        items = np.take_along_axis(items, chosen, 1)
        scores = np.take_along_axis(scores, chosen, 1)
    order = np.lexsort((items, -scores), axis=1)
    items, scores = np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)
    real = np.isfinite(scores)
    found = np.where(real, items, 0).astype(np.int32)
    return found, np.where(real, scores, -np.inf).astype(np.float32)
