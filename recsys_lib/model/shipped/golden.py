"""Histories with the answers that a bundle gave when it was made: it must give them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_lib.errors import ModelError
from recsys_lib.model.histories import Floats, Histories, Ints, Scorer

ALIKE = 0.99
"""Share of answers that must be the same: on another processor, near ties may change places."""
NEAR = 0.02
"""Largest median difference of a score, relative; and what is no further from the last of the best
may as well be missing."""


@dataclass(frozen=True)
class Golden:
    """items int32 [B, K] and scores float32 [B, K] are the answers to the histories."""

    histories: Histories
    items: Ints
    scores: Floats

    @classmethod
    def answered(cls, scorer: Scorer, histories: Histories, k: int = 20) -> Golden:
        return cls(histories, *scorer.top_k(histories, k))

    def check(self, scorer: Scorer) -> None:
        """Raises ModelError where the scorer answers otherwise."""
        fault = self.fault(scorer)
        if fault:
            raise ModelError(
                f"{scorer.name} must give the answers it was shipped with, {fault}; its files do "
                "not belong together, or its runtime differs: fetch it again, or export it here"
            )

    def fault(self, scorer: Scorer, alike: float = ALIKE, near: float = NEAR) -> str:
        """How the scorer's answers differ; "" where they are the same as far as asked."""
        items, scores = scorer.top_k(self.histories, self.items.shape[1])
        wanted, real = self.items > 0, (items > 0) & np.isfinite(scores)
        if len(wanted) and (not wanted.any() or (wanted.sum(1) != real.sum(1)).any()):
            return f"got {real.sum()} answers where {wanted.sum()} are"
        lists = zip(np.where(real, items, -1), self.items, strict=True)
        same = np.array([np.isin(mine, found) for found, mine in lists]).reshape(wanted.shape)
        last = np.where(wanted, self.scores, np.inf).min(1, keepdims=True, initial=np.inf)
        same |= self.scores - last <= NEAR * np.abs(last)
        share = float(same[wanted].mean()) if wanted.any() else 1.0
        told, mine = self.scores[wanted], scores[wanted]
        gap = np.abs(mine - told) / np.maximum(np.abs(told), 1e-3)
        apart = float(np.median(gap)) if wanted.any() else 0.0
        if share >= alike and apart <= near:
            return ""
        return f"got {share:.1%} of the items in common and scores {apart:.1%} apart"

    def table(self) -> pa.Table:
        h = self.histories
        return pa.table(
            {
                "items": _lists(h.items, h.offsets),
                "types": _lists(h.types, h.offsets),
                "at": _lists(h.at, h.offsets),
                "values": _lists(_or_nothing(h.values, h.at), h.offsets),
                "now": pa.array(h.now),
                "profile": pa.array(list(h.profile), pa.list_(pa.int32())),
                "answer": pa.array(list(self.items), pa.list_(pa.int32())),
                "scores": pa.array(list(self.scores), pa.list_(pa.float32())),
            }
        )

    @classmethod
    def of(cls, table: pa.Table) -> Golden:
        lists = table.column("items").combine_chunks()
        rows = len(table)
        histories = Histories(
            offsets=np.asarray(lists.offsets).astype(np.int64),
            items=_flat(table, "items", np.int32),
            types=_flat(table, "types", np.int32),
            at=_flat(table, "at", np.float32),
            now=np.asarray(table.column("now"), np.float32),
            profile=_flat(table, "profile", np.int32).reshape(rows, -1)
            if rows
            else np.zeros((0, 0), np.int32),
            values=_flat(table, "values", np.float32),
        )
        items = _flat(table, "answer", np.int32).reshape(rows, -1)
        return cls(histories, items, _flat(table, "scores", np.float32).reshape(rows, -1))


def _or_nothing(values: Any, like: Any) -> Any:
    return np.zeros_like(like) if values is None else values


def _lists(values: Any, offsets: Any) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))


def _flat(table: pa.Table, column: str, kind: type) -> Any:
    return np.asarray(table.column(column).combine_chunks().flatten()).astype(kind, copy=False)
