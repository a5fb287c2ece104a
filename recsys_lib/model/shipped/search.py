"""The rest of the shop: the best items of all by product, and the sum that makes them a share.

A small catalogue is multiplied through. A large one is searched by faiss (4-bit product
quantisation, scanned in registers: André, Kermarrec and Le Scouarnec 2015), the best candidates
are scored exactly, and the logarithm of the sum over all items is estimated from the items that
are heaviest for everybody, counted exactly, and a fixed sample of the others.
"""

from __future__ import annotations

import copy
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.compiled import matched
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

    def matched(
        self, items: NDArray[Any], row: Ints, user: Floats, taste: Floats
    ) -> tuple[Floats, Floats]:
        """Of items [R] for rows [R] of the users: what vectors say, and whole scores: [R]."""
        vectors = self.vectors
        return matched(items, row, vectors.values, vectors.scales, self.known, user, taste)

    def exact(self, found: Ints, user: Floats, taste: Floats) -> Floats:
        """Scores of items [B, R]."""
        row = np.arange(len(found)).repeat(found.shape[1])
        return self.matched(found.ravel(), row, user, taste)[1].reshape(found.shape)

    def matrix(self, items: Ints) -> Floats:
        return np.concatenate([self.vectors.take(items), self.known[items]], 1)


class Search(Protocol):
    """How the shop is searched for B users."""

    @property
    def items(self) -> int:
        """How many there are."""
        ...

    def total(self, user: Floats, taste: Floats) -> Floats:
        """Log of the sum of exp(score) over all items: [B]."""
        ...

    def best(self, user: Floats, taste: Floats, count: int) -> tuple[Ints, Floats]:
        """Items [B, count] that score best, of equal ones the smaller, in any order, with their
        scores."""
        ...

    def extended(self, shelf: Shelf) -> Search:
        """The same with the items that `shelf` has at its end."""
        ...


class Whole:
    """Every item is multiplied. `total` and `best` of one batch share the product."""

    def __init__(self, shelf: Shelf) -> None:
        self.items = shelf.items
        self._matrix = np.ascontiguousarray(shelf.matrix(np.arange(1, shelf.items + 1)).T)
        self._last: tuple[Floats, Floats] | None = None

    def total(self, user: Floats, taste: Floats) -> Floats:
        scores = self._scores(user, taste)
        most = scores.max(1)
        total = np.log(np.exp(scores - most[:, None]).sum(1)) + most
        return np.asarray(total)

    def best(self, user: Floats, taste: Floats, count: int) -> tuple[Ints, Floats]:
        scores = self._scores(user, taste)
        count = min(count, scores.shape[1])
        found = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        best = np.take_along_axis(scores, found, 1)
        last = best.min(1, keepdims=True)
        for row in np.flatnonzero((scores == last).sum(1) > (best == last).sum(1)):
            # Some that are as good as the last are left out: it must be those that come later.
            tied = best[row] == last[row]
            found[row, tied] = np.flatnonzero(scores[row] == last[row])[: tied.sum()]
        return found + 1, best

    def extended(self, shelf: Shelf) -> Whole:
        return Whole(shelf)

    def _scores(self, user: Floats, taste: Floats) -> Floats:
        if self._last is None or self._last[0] is not user:
            self._last = user, np.concatenate([user, taste], 1) @ self._matrix
        return self._last[1]


class Scan:
    """faiss, and a sample for the total."""

    HEAVY, SAMPLE = 1024, 1024
    PART = 2
    """Dimensions that share a code of four bits."""
    LEAST = 16
    """Items: a code of four bits is learned from no fewer."""

    def __init__(
        self, shelf: Shelf, typical: Floats, rerank: int, threads: int = 1, seed: int = 7
    ) -> None:
        """typical [K]: the taste of a usual user. `rerank` candidates for each item asked for.
        `threads` are those of faiss in this whole process."""
        _use_threads(threads)
        self._shelf, self._rerank = shelf, rerank
        matrix = shelf.matrix(np.arange(1, shelf.items + 1))
        span = np.ptp(matrix[:, shelf.vectors.values.shape[1] :], axis=0)
        self._step = np.maximum(span / 15.0, 1e-6)
        self._index = _scanned(self._spread(matrix), seed)
        mass = np.exp(shelf.known[1:].astype(np.float64) @ typical)
        places, log_weight = _sampled(mass, self.HEAVY, self.SAMPLE, seed)
        self._part = np.ascontiguousarray(shelf.matrix(places + 1).T)
        self._log_weight = log_weight.astype(np.float32)

    @property
    def items(self) -> int:
        return self._shelf.items

    def total(self, user: Floats, taste: Floats) -> Floats:
        scores = np.concatenate([user, taste], 1) @ self._part
        scores += self._log_weight
        most = scores.max(1)
        scores -= most[:, None]
        np.exp(scores, out=scores)
        return np.asarray(np.log(scores.sum(1)) + most)

    def best(self, user: Floats, taste: Floats, count: int) -> tuple[Ints, Floats]:
        wanted = min(count * self._rerank, self.items)
        question = _asked(user, taste, self._index.d)
        _, found = self._index.search(question, wanted)
        found = np.maximum(found + 1, 0)
        scores = self._shelf.exact(found, user, taste)
        return found, np.where(found > 0, scores, -np.inf).astype(np.float32)

    def extended(self, shelf: Shelf) -> Scan:
        """New items are coded by the book that is there, and weigh nothing in the total."""
        import faiss

        more = copy.copy(self)
        more._shelf, more._index = shelf, faiss.clone_index(self._index)
        places = np.arange(self.items + 1, shelf.items + 1)
        more._index.add(self._spread(shelf.matrix(places)))
        return more

    def _spread(self, matrix: Floats) -> Floats:
        """Four bits are too few for what is known of an item, which weighs most: what they miss
        is coded once more."""
        size = matrix.shape[1] - len(self._step)
        known = matrix[:, size:]
        coarse = np.round(known / self._step) * self._step
        parts = [matrix[:, :size], coarse, known - coarse]
        missing = -(size + 2 * known.shape[1]) % self.PART
        return np.ascontiguousarray(
            np.concatenate([*parts, np.zeros((len(matrix), missing))], 1), np.float32
        )


def _use_threads(threads: int) -> None:
    import faiss

    faiss.omp_set_num_threads(threads)


def _scanned(matrix: Floats, seed: int) -> Any:
    import faiss

    width = matrix.shape[1]
    index = faiss.IndexPQFastScan(width, width // Scan.PART, 4, faiss.METRIC_INNER_PRODUCT)
    index.pq.cp.seed = seed
    index.train(matrix)
    index.add(matrix)
    return index


def _asked(user: Floats, taste: Floats, width: int) -> Floats:
    question = np.zeros((len(user), width), np.float32)
    size, known = user.shape[1], taste.shape[1]
    question[:, :size] = user
    question[:, size : size + known] = taste
    question[:, size + known : size + 2 * known] = taste
    return question


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
