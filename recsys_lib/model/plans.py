"""What the shop had planned for its items, window by window: displays, mailers, prices.

It tells who takes an item mostly while it is on offer, and what an offer does for an item.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.compiled import planned_at
from recsys_lib.model.histories import Floats, Histories, Offsets
from recsys_lib.model.ragged import offsets_of


@dataclass(frozen=True)
class Plans:
    """CSR form: the plans of item n are rows offsets[n] : offsets[n + 1], by window.

    offsets int64 [N + 2]; window int32 [R]; weight float32 [R], above 0: the largest of the
    features that were planned for the item in the window
    """

    offsets: Offsets
    window: NDArray[np.int32]
    weight: Floats

    @classmethod
    def of(
        cls, window: NDArray[np.int64], index: NDArray[np.int64], weight: Floats, items: int
    ) -> Plans:
        """Of entries in any order, one for each item and window; weights of nothing say nothing,
        and items that are not known are left out."""
        real = np.flatnonzero((weight > 0) & (index <= items))
        order = real[np.lexsort((window[real], index[real]))]
        offsets = offsets_of(np.bincount(index[order], minlength=items + 1).astype(np.int64))
        return cls(offsets, window[order].astype(np.int32), weight[order].astype(np.float32))

    @property
    def item(self) -> NDArray[np.int64]:
        """int64 [R]: the item of each row."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def when_taken(self, histories: Histories) -> Floats:
        """How much of each event's item was planned in the window of the event: [E]; 0 where
        nothing was, or the time is unknown."""
        told = self._marks, self.offsets, self.window, self.weight
        return planned_at(histories.items, histories.at, *told)

    @cached_property
    def _marks(self) -> NDArray[np.uint64]:
        """[N + 1]: bit w % 64 of an item is set where something was planned for it in window w."""
        marks = np.zeros(len(self.offsets) - 1, np.uint64)
        bits = np.uint64(1) << (self.window.astype(np.int64) & 63).astype(np.uint64)
        np.bitwise_or.at(marks, self.item, bits)
        return marks

    def extended(self, more: int) -> Plans:
        """With so many items more, for which nothing was planned."""
        return Plans(np.pad(self.offsets, (0, more), mode="edge"), self.window, self.weight)
