"""Item tables that end: what is taken most has rows of its own, the rest shares those of a tail.

A catalogue grows for ever; what a rank holds of it need not. With `own` and `shared` rows the
tables have own + shared rows behind row 0 however many items there are. Up to `own` items each has
the row of its index. Then rows 1..own go to those that were taken most, and all others share the
rest, by their index (the hashing of rare ids: Weinberger et al., ICML 2009; filtered by frequency:
Liu et al., Monolith, 2022). Rows do not move while they have an owner, so weights keep their
meaning from one increment to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ITEM_TABLES = ("items", "item_bias", "copy_bias")
NONE = -1
"""The row of an item that no table has learned: its attributes speak for it."""
OVERTAKEN = float(np.log(4.0))
"""By how much, on the log scale, an item has to be ahead of another to take its row from it."""


@dataclass(frozen=True)
class Cut:
    """Where tables end. `own` 0: nowhere, every item has a row."""

    own: int = 0
    shared: int = 0

    @classmethod
    def of(cls, sizes: Mapping[str, Any]) -> Cut:
        """By the sizes of a network, as settings and a model's spec name them."""
        return cls(sizes.get("own_items", 0), sizes.get("shared_rows", 0))

    def size(self, items: int) -> int:
        """Rows of a table for so many items, row 0 not counted."""
        return items if self.holds_all(items) else self.own + self.shared

    def holds_all(self, items: int) -> bool:
        return not self.own or items <= self.own

    def rows(
        self, heat: NDArray[np.float32], before: NDArray[np.int32] | None
    ) -> NDArray[np.int32] | None:
        """The table row of each item: int32 [N + 1]; None where that is its index.

        heat    float32 [N + 1]  log of how much each item was taken lately; row 0 is nobody
        before  int32 [M + 1]    rows of the first M items as they are (NONE: not learned yet);
                                 None: nothing was learned
        """
        items = len(heat) - 1
        if self.holds_all(items):
            return None
        index = np.arange(items + 1, dtype=np.int32)
        found = self._shared(index)
        found[0] = 0
        known = index[:0] if before is None else before
        owners = np.flatnonzero((known > 0) & (known <= self.own))
        found[owners] = known[owners]
        waiting = np.setdiff1d(index[1:], owners)
        waiting = waiting[np.argsort(-heat[waiting], kind="stable")]
        free = np.setdiff1d(index[1 : self.own + 1], found[owners])
        found[waiting[: len(free)]] = free[: len(waiting)]
        return self._handed_over(found, heat, owners, waiting[len(free) :])

    def _handed_over(
        self,
        rows: NDArray[np.int32],
        heat: NDArray[np.float32],
        owners: NDArray[np.int64],
        waiting: NDArray[np.int64],
    ) -> NDArray[np.int32]:
        """The hottest of `waiting` get the rows of the coldest owners that they have overtaken."""
        coldest = owners[np.argsort(heat[owners], kind="stable")]
        pairs = min(len(coldest), len(waiting))
        ahead = heat[waiting[:pairs]] - heat[coldest[:pairs]]
        taken = int((ahead > OVERTAKEN).sum())  # falls from pair to pair
        new, old = waiting[:taken], coldest[:taken]
        rows[new] = rows[old]
        rows[old] = self._shared(old)
        return rows

    def _shared(self, index: NDArray[Any]) -> NDArray[np.int32]:
        return (self.own + 1 + index % self.shared).astype(np.int32)


def lengthened(rows: NDArray[np.int32] | None, known: int, items: int) -> NDArray[np.int32]:
    """Rows of `known` items for `items` of them; those that came since have none."""
    old = np.arange(known + 1, dtype=np.int32) if rows is None else rows
    return np.pad(old, (0, items + 1 - len(old)), constant_values=NONE)
