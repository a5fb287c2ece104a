"""The copy and near heads in numpy, over ragged rows: no padding, and what is the same in many
rows is multiplied once. They are the same functions as `Network.copy_logits` and
`Network.near_logits`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.bundle import Arrays
from recsys_lib.model.compiled import joined, judged
from recsys_lib.model.copies import USER_FEATURES
from recsys_lib.model.histories import Floats, Ints, Offsets


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
        (kernel, bias), (out, shift) = self._second, self._out
        first = own.T @ self._own
        told = known, users @ self._user, self._types
        explored = joined(first, rows, (*match, self._match), shop, told)
        return judged(first @ kernel, bias, out, own[0] + shift), explored
