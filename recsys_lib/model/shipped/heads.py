"""The copy and near heads in numpy, over ragged rows: no padding, and what is the same in many
rows is multiplied once. They are the same functions as `Network.copy_logits` and
`Network.near_logits`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.bundle import Arrays
from recsys_lib.model.compiled import joined
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
        self._match = match[0]
        self._types = np.asarray(typed @ by_type + bias, np.float32)
        self._second = arrays[f"{name}_hidden_2/kernel"], arrays[f"{name}_hidden_2/bias"]
        self._out = arrays[f"{name}_out/kernel"][:, 0], arrays[f"{name}_out/bias"]

    def of_items(self, kinds: Floats, stats: Floats, bias: Floats) -> Floats:
        """What is known of items [N, ...] -> what a row has of its item: [N, H]."""
        return np.asarray(kinds @ self._kind + stats @ self._stats + bias[:, None] @ self._bias)

    def __call__(
        self,
        own: Floats,
        known: Floats,
        items: Ints,
        match: Floats,
        user: tuple[Floats, Offsets],
        types: Ints,
    ) -> Floats:
        """Logits [R] of R rows: own features [R, ...], `items` [R] in `known` (see `of_items`),
        match [R], features of users [B, ...] with the row of each [R], event types [R]."""
        (features, row), (kernel, bias), (out, shift) = user, self._second, self._out
        told = (known, items), (features @ self._user, row), (self._types, types)
        first = own @ self._own
        joined(first, (match, self._match), told)
        hidden = first @ kernel
        hidden += bias
        np.maximum(hidden, 0, out=hidden)
        learned = hidden @ out
        learned += own[:, 0]
        learned += shift
        return np.asarray(learned)


def log_softmax(logits: Floats, offsets: NDArray[np.int64]) -> Floats:
    """Of each ragged row by itself: [R]."""
    lengths = np.diff(offsets)
    if len(lengths) == 1:
        if not len(logits):
            return logits
        apart = logits - logits.max()
        return np.asarray(apart - np.log(np.exp(apart).sum()))
    some = lengths > 0
    starts, sizes = offsets[:-1][some], lengths[some]
    if not len(starts):
        return logits
    apart = logits - np.repeat(np.maximum.reduceat(logits, starts), sizes)
    return np.asarray(apart - np.repeat(np.log(np.add.reduceat(np.exp(apart), starts)), sizes))
