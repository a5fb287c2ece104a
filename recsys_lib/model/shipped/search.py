"""The rest of the shop: which of its items could be among the best, and the sum that makes a score
a share.

Items lie in the cells of a k-d tree (Bentley 1975). No item of a cell scores more than the cell's
ball and box allow (Ram and Gray 2012), and most users have had so much that they like better than
all else that few cells are looked into: what is found is exact. The logarithm of the sum over all
items is estimated in a large catalogue, from the items that are heaviest for everybody, counted
exactly, and a fixed sample of the others.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.compiled import Cells
from recsys_lib.model.ragged import offsets_of
from recsys_lib.model.shipped.rows import Rows

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Shelf:
    """Item n scores vectors[n] . user + known[n] . taste; row 0 is nobody's.

    known float32 [N + 1, K] (statistics and bias), taste [B, K].
    """

    def __init__(self, vectors: Rows, known: Floats) -> None:
        self.vectors, self.known = vectors, known

    @property
    def items(self) -> int:
        return len(self.known) - 1

    def matrix(self, items: Ints) -> Floats:
        return np.concatenate([self.vectors.take(items), self.known[items]], 1)


class Search:
    """How the shop is searched for B users."""

    HEAVY, SAMPLE = 1024, 1024

    def __init__(self, shelf: Shelf, typical: Floats, summed: int, seed: int = 7) -> None:
        """typical [K]: the taste of a usual user. The sum over all items is exact where there are
        no more than `summed`."""
        self._typical, self._summed = typical, summed
        places = np.arange(1, shelf.items + 1)
        self.cells, self._bounds = _cells(shelf, typical, places)
        mass = np.exp(shelf.known[1:].astype(np.float64) @ typical)
        heavy = self.HEAVY if shelf.items > summed else shelf.items
        places, log_weight = _sampled(mass, heavy, self.SAMPLE, seed)
        self._part = np.ascontiguousarray(shelf.matrix(places + 1).T)
        self._log_weight = log_weight.astype(np.float32)

    @property
    def width(self) -> int:
        """Numbers that are held at a time for each user, at most."""
        return max(len(self._log_weight), len(self.cells[0]))

    def total(self, user: Floats, taste: Floats) -> Floats:
        """Log of the sum of exp(score) over all items: [B]."""
        scores = np.concatenate([user, taste], 1) @ self._part
        scores += self._log_weight
        most = scores.max(1)
        scores -= most[:, None]
        np.exp(scores, out=scores)
        return np.asarray(np.log(scores.sum(1)) + most)

    def bounds(self, user: Floats, taste: Floats) -> Floats:
        """What no item of a cell exceeds: [B, C]."""
        length = np.sqrt(np.square(user).sum(1, keepdims=True))
        asked = [user, length, np.maximum(taste, 0), np.minimum(taste, 0)]
        return np.asarray(np.concatenate(asked, 1) @ self._bounds)

    def extended(self, shelf: Shelf) -> Search:
        """The same with the items that `shelf` has at its end, which weigh nothing in an estimated
        total."""
        if shelf.items <= max(self._summed, len(self.cells[1])):
            return Search(shelf, self._typical, self._summed)
        more = copy.copy(self)
        old = self.cells
        new, bounds = _cells(shelf, self._typical, np.arange(len(old[1]) + 1, shelf.items + 1))
        more.cells = (
            np.concatenate([old[0], len(old[1]) + new[0][1:]]),
            np.concatenate([old[1], new[1]]),
            np.concatenate([old[2], new[2]]),
            np.concatenate([old[3], new[3]]),
            np.concatenate([old[4], new[4]]),
        )
        more._bounds = np.concatenate([self._bounds, bounds], 1)
        return more


CELL = 32
"""Items of a cell, at most."""
ROUNDING = np.float32(1e-5)
"""By so much bounds are wider, relatively: sums of products differ by their order."""


def _cells(shelf: Shelf, typical: Floats, places: Ints) -> tuple[Cells, Floats]:
    """The items at these places, those cells first that a usual user would look into; and a matrix
    whose product with what a user asks are bounds of the cells (see Search.bounds)."""
    vectors, known = shelf.vectors.take(places), shelf.known[places]
    parts = sorted(
        _halves(np.concatenate([vectors, known], 1), np.arange(len(places))),
        key=lambda part: -float((known[part] @ typical).max()),
    )
    offsets = offsets_of(np.array([len(part) for part in parts], np.int64))
    order, starts = np.concatenate(parts), offsets[:-1]
    sizes = np.diff(offsets)
    vectors, known = vectors[order], known[order]
    middle = np.add.reduceat(vectors, starts) / sizes[:, None].astype(np.float32)
    apart = np.square(vectors - middle.repeat(sizes, 0)).sum(1, keepdims=True)
    radius = np.sqrt(np.maximum.reduceat(apart, starts))
    radius += ROUNDING * (radius + np.linalg.norm(middle, axis=1, keepdims=True))
    high, low = np.maximum.reduceat(known, starts), np.minimum.reduceat(known, starts)
    box = high + ROUNDING * np.abs(high), low - ROUNDING * np.abs(low)
    found = places[order]
    cells = (
        offsets,
        found.astype(np.int32),
        shelf.vectors.values[found],
        shelf.vectors.scales[found],
        known,
    )
    return cells, np.ascontiguousarray(np.concatenate([middle, radius, *box], 1).T)


def _halves(matrix: Floats, places: Ints) -> Iterator[Ints]:
    """Places of rows, parted in the middle of the widest column until each part is a cell."""
    if len(places) <= CELL:
        yield places
        return
    rows = matrix[places]
    half = len(places) // 2
    order = places[np.argpartition(rows[:, rows.var(0).argmax()], half)]
    yield from _halves(matrix, order[:half])
    yield from _halves(matrix, order[half:])


def _sampled(
    mass: NDArray[np.float64], heavy: int, sample: int, seed: int
) -> tuple[Ints, NDArray[np.float64]]:
    """Places of the `heavy` heaviest, and of a systematic sample of the others, with the log of
    how many items each one stands for."""
    order = np.argsort(-mass, kind="stable")
    top, rest = order[:heavy], order[heavy:]
    if len(rest) <= sample:
        return order, np.zeros(len(order))
    q = 0.5 * mass[rest] / mass[rest].sum() + 0.5 / len(rest)
    points = (np.arange(sample) + np.random.default_rng(seed).random()) / sample
    drawn = np.minimum(np.searchsorted(np.cumsum(q), points), len(rest) - 1)
    weight = -np.log(sample * q[drawn])
    return np.concatenate([top, rest[drawn]]), np.concatenate([np.zeros(len(top)), weight])
