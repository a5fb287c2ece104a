"""The copy and near heads in numpy, over ragged rows: no padding, and what is the same in many
rows is multiplied once. They are the same functions as `Network.copy_logits` and
`Network.near_logits`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.bundle import Arrays
from recsys_lib.model.compiled import joined, judged
from recsys_lib.model.copies import USER_FEATURES
from recsys_lib.model.histories import Floats, Ints, Offsets

ROWS = 4096
"""Rows whose layers are made together: as many as stay near the processor."""


class Head:
    """A small network over [own features, statistics, user features, event type, kind of item,
    match, item bias]."""

    def __init__(self, name: str, arrays: Arrays, kinds: int, stats: int) -> None:
        """`kinds`: numbers that tell the kind of an item; `stats`: its statistics."""
        typed = arrays["copy_types/embeddings"] if name == "copy" else np.zeros((1, 0), np.float32)
        kernel, bias = arrays[f"{name}_hidden/kernel"], arrays[f"{name}_hidden/bias"]
        sizes = [stats, len(USER_FEATURES), typed.shape[1], kinds, 1]
        own = len(kernel) - 1 - sum(sizes)
        parts = np.split(np.asarray(kernel, np.float32), np.cumsum([own, *sizes]))
        self._own, self._stats, self._user, by_type, self._kind, match, self._bias = parts
        self._match = np.ascontiguousarray(match[0])
        self._types = np.asarray(typed @ by_type + bias, np.float32)
        self._second = arrays[f"{name}_hidden_2/kernel"], arrays[f"{name}_hidden_2/bias"]
        self._out = np.ravel(arrays[f"{name}_out/kernel"]), arrays[f"{name}_out/bias"]

    def of_items(self, kinds: Floats, stats: Floats, bias: Floats) -> Floats:
        """What is known of items [N, ...] -> what a row has of its item: [N, H]. Of `stats` the
        first are heard."""
        heard = stats[:, : len(self._stats)] @ self._stats
        return np.asarray(kinds @ self._kind + heard + bias[:, None] @ self._bias)

    def __call__(
        self,
        own: Floats,
        rows: tuple[Offsets, Ints, Ints],
        match: tuple[NDArray[Any], Floats, Floats],
        shop: tuple[Floats, Floats],
        known: Floats,
        users: Floats,
    ) -> tuple[Floats, Floats]:
        """Logits of the rows, and what their items score in the shop, float32 [R] both (see
        `joined`): own features [..., R], what is `known` of all items (see `of_items`), features of
        users [B, ...]."""
        (offsets, items, types), (values, scale, user), (facts, taste) = rows, match, shop
        (kernel, bias), (out, shift) = self._second, self._out
        by_user = users @ self._user
        logits, explored = np.empty((2, len(items)), np.float32)
        for b in _blocks(offsets):
            r = slice(offsets[b.start], offsets[b.stop])
            made = own[:, r].T @ self._own
            explored[r] = joined(
                made,
                (offsets[b.start : b.stop + 1] - r.start, items[r], types[r]),
                (values, scale, user[b], self._match),
                (facts, taste[b]),
                (known, by_user[b], self._types),
            )
            logits[r] = judged(made @ kernel, bias, out, own[0, r] + shift)
        return logits, explored


def _blocks(offsets: Offsets) -> Iterator[slice]:
    """Users whose rows together are ROWS, at least one user in each."""
    start, users = 0, len(offsets) - 1
    while start < users:
        stop = int(np.searchsorted(offsets, offsets[start] + ROWS, "right")) - 1
        stop = min(users, max(start + 1, stop))
        yield slice(start, stop)
        start = stop
