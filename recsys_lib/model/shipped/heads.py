"""The copy and near heads in numpy, over ragged rows: no padding, one pass over what is known of
an item. They are the same functions as `Network.copy_logits` and `Network.near_logits`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.bundle import Arrays
from recsys_lib.model.compiled import side_by_side
from recsys_lib.model.copies import COPY_FEATURES, USER_FEATURES
from recsys_lib.model.histories import Floats, Ints, Offsets
from recsys_lib.model.neighbours import FEATURES as NEAR_FEATURES


@dataclass(frozen=True)
class Facts:
    """One row for each item, so that a request gathers once: kind, statistics, biases.

    table float32 [N + 1, kinds + stats + 2]
    """

    table: Floats
    kinds: int

    @classmethod
    def of(cls, kinds: Floats, stats: Floats, biases: Floats) -> Facts:
        """biases [N + 1, 2]: of the item, of its copying."""
        return cls(np.ascontiguousarray(np.concatenate([kinds, stats, biases], 1)), kinds.shape[1])

    @property
    def explore(self) -> slice:
        """Columns that score an item for everybody: statistics, item bias."""
        return slice(self.kinds, self.table.shape[1] - 1)


class Head:
    """A small network over [own features, facts, match, user features, event type]."""

    def __init__(self, name: str, arrays: Arrays, kinds: int, stats: int) -> None:
        self._own = len(COPY_FEATURES if name == "copy" else NEAR_FEATURES)
        kernel, users = arrays[f"{name}_hidden/kernel"], len(USER_FEATURES)
        own, rest = kernel[: self._own], kernel[self._own :]
        known, user, rest = rest[:stats], rest[stats : stats + users], rest[stats + users :]
        width = arrays["copy_types/embeddings"].shape[1] if name == "copy" else 0
        typed, kind, match, bias = np.split(rest, [width, width + kinds, width + kinds + 1])
        nothing = np.zeros_like(bias)
        biases = [nothing, bias] if name == "copy" else [bias, nothing]
        self._kernel = np.ascontiguousarray(
            np.concatenate([own, kind, known, *biases, match, user]), np.float32
        )
        self._types = arrays["copy_types/embeddings"] @ typed if width else None
        self._bias = arrays[f"{name}_hidden/bias"]
        self._second = arrays[f"{name}_hidden_2/kernel"], arrays[f"{name}_hidden_2/bias"]
        self._out = arrays[f"{name}_out/kernel"][:, 0], arrays[f"{name}_out/bias"]

    def __call__(
        self,
        own: Floats,
        table: Floats,
        items: Ints,
        match: Floats,
        user: tuple[Floats, Offsets],
        types: Ints | None = None,
    ) -> Floats:
        """Logits [R] of R rows: own features [R, ...], the facts of `items` [R] in `table`, match
        [R], features of users [B, ...] with the row of each [R], event types [R]."""
        hidden = side_by_side(own, table, items, match, *user) @ self._kernel
        hidden += self._bias if self._types is None else (self._types + self._bias)[types]
        np.maximum(hidden, 0, out=hidden)
        hidden = hidden @ self._second[0]
        hidden += self._second[1]
        np.maximum(hidden, 0, out=hidden)
        learned = hidden @ self._out[0]
        learned += own[:, 0]
        learned += self._out[1]
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
