"""What is known of each item at the start of a window: popularity, its trend, its age."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEATURES = ("log_share", "trend", "newness")
DECAY = 0.8
"""Weight of a window's buyers one window later, in `log_share`."""


@dataclass(frozen=True)
class ItemStats:
    """values float32 [W, N + 1, F]; row w holds what was known when window first + w began.

    FEATURES come first; what the shop has planned for the window, if anything, comes after them.
    """

    first: int
    values: NDArray[np.float32]

    @property
    def items(self) -> int:
        return self.values.shape[1] - 1

    def rows(self, now: NDArray[np.float32]) -> NDArray[np.int32]:
        """Row of each decision time; unknown (NaN) and later times take the latest row."""
        latest = len(self.values) - 1
        with np.errstate(invalid="ignore"):
            row = np.floor(now) - self.first
        row = np.where(np.isnan(row), latest, row)
        return np.clip(row, 0, latest).astype(np.int32)


def item_stats(
    window: NDArray[np.int64],
    index: NDArray[np.int64],
    users: NDArray[np.float64],
    items: int,
    first: int,
    last: int,
) -> ItemStats:
    """Statistics for the starts of windows first..last, from counts of the windows before each.

    window, index, users: one entry per (window, item), any order; entries at or after a window do
    not touch its row. The log's very first window has no past, so its own counts stand in for it.
    """
    if len(window) and first <= window.min() <= last:
        earliest = int(window.min())
        own = window == earliest
        window = np.concatenate([window, np.full(own.sum(), earliest - 1)])
        index = np.concatenate([index, index[own]])
        users = np.concatenate([users, users[own]])
    start = int(window.min()) if len(window) else first
    decayed = np.zeros(items + 1)
    current: NDArray[np.float64] = np.zeros(items + 1)
    seen_at = np.full(items + 1, np.inf)
    values = np.zeros((last - first + 1, items + 1, len(FEATURES)), dtype=np.float32)
    inside = index <= items
    for w in range(min(start, first), last + 1):
        if w >= first:
            values[w - first] = _features(decayed, current, (w - seen_at).astype(np.float64))
        own = inside & (window == w)
        counted = np.bincount(index[own], weights=users[own], minlength=items + 1)
        current = counted.astype(np.float64)
        decayed = DECAY * decayed + current
        seen_at = np.where((current > 0) & np.isinf(seen_at), w, seen_at)
    return ItemStats(first, values)


def _features(
    decayed: NDArray[np.float64], current: NDArray[np.float64], age: NDArray[np.float64]
) -> NDArray[np.float32]:
    # Half a buyer for everyone: an item without sales keeps a finite logarithm.
    log_share = np.log((decayed + 0.5) / (decayed.sum() + 0.5 * len(decayed)))
    log_last = np.log((current + 0.5) / (current.sum() + 0.5 * len(current)))
    newness = np.where(np.isinf(age), 0.0, np.exp(-age / 4.0))
    return np.stack([log_share, log_last - log_share, newness], axis=1).astype(np.float32)
