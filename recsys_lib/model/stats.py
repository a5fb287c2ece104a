"""What is known of each item at the start of a window: popularity, its trend, its age, how people
come back to it, and what plans do for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.plans import Plans

RETURNS = ("log_repeat", "log_hazard", "log_gap")
"""Against the whole shop: the share of an item's takers who took it again, the chance that one
takes it again in some window, the windows between. An item of which nothing is known has 0."""
POPULARITY = ("log_share", "trend", "newness")
LIFT = "log_lift"
"""Its takers in windows for which it was planned, against as many as if plans did nothing; 0 for an
item of which nothing is known."""
FEATURES = (*POPULARITY, *RETURNS, LIFT)
AMONG = 100.0
"""Shares of an item among its kind below 1 / AMONG are hardly told apart."""
DECAY = 0.8
"""Weight of a window's buyers one window later, in `log_share`."""
PRIOR = 3.0
"""Takers for whom every item is as all items are, its share stays, and plans do nothing."""


@dataclass(frozen=True)
class ItemReturns:
    """One entry for each window and item, any order (see `features.returns`): window, index
    int64; firsts, seconds, returns, gaps float64."""

    window: NDArray[np.int64]
    index: NDArray[np.int64]
    firsts: NDArray[np.float64]
    seconds: NDArray[np.float64]
    returns: NDArray[np.float64]
    gaps: NDArray[np.float64]


@dataclass(frozen=True)
class ItemStats:
    """values float32 [W, N + 1, F]; row w holds what was known when window first + w began.

    FEATURES come first; what the shop has planned for the window, if anything, comes after them,
    and last `kinds` shares of the item among its like (see `with_kinds`).
    """

    first: int
    values: NDArray[np.float32]
    kinds: int = 0

    @property
    def items(self) -> int:
        return self.values.shape[1] - 1

    def narrowed(self, width: int) -> ItemStats:
        """The first `width` features: all that there were when an older model was made."""
        return ItemStats(self.first, self.values[:, :, :width])

    def with_kinds(self, attributes: NDArray[np.int32]) -> ItemStats:
        """With one feature more for each attribute of items int32 [N + 1, A]: how much of what is
        taken of all items with the same value of it is this one, log(1 + AMONG share). It tells the
        milk that all take from the one that nobody does, in a shop where much milk is taken. An
        item that nobody took has 0, as has one whose value is unknown."""
        kinds = attributes.shape[1]
        shares = np.zeros((*self.values.shape[:2], kinds), np.float32)
        for window, log_share in enumerate(self.values[:, :, 0]):
            taken = np.exp(log_share.astype(np.float64))
            taken -= taken.min()  # the half buyer of everyone
            for a, value in enumerate(attributes.T):
                whole = np.bincount(value, taken)[value]
                told = (value > 0) & (taken > 0)
                share = np.divide(taken, whole, out=np.zeros_like(taken), where=told)
                shares[window, :, a] = np.log1p(AMONG * share)
        return ItemStats(self.first, np.concatenate([self.values, shares], 2), kinds)

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
    returns: ItemReturns | None = None,
    plans: Plans | None = None,
    *,
    opening: bool = True,
) -> ItemStats:
    """Statistics for the starts of windows first..last, from counts of the windows before each.

    window, index, users: one entry per (window, item), any order; entries at or after a window do
    not touch its row. The log's very first window has no past, so its own counts stand in for it:
    it is the first that is counted here, unless the counts are not those of the shop's `opening`.
    """
    values = np.zeros((last - first + 1, items + 1, len(FEATURES)), dtype=np.float32)
    shown, takers = len(POPULARITY), _Amounts.ordered(window, index, users, items)
    values[..., :shown] = _popularity(takers, first, last, opening)
    if returns is not None:
        values[..., shown : shown + len(RETURNS)] = _hazards(returns, items, first, last)
    if plans is not None and len(takers.window):
        values[..., -1] = _lifts(takers, plans, first, last)
    return ItemStats(first, values)


class _Amounts(NamedTuple):
    """Amounts by window, which ascends, and item: takers, or how much was planned."""

    window: NDArray[Any]
    item: NDArray[np.int64]
    amount: NDArray[Any]
    items: int

    @classmethod
    def ordered(
        cls, window: NDArray[Any], item: NDArray[Any], amount: NDArray[Any], items: int
    ) -> _Amounts:
        """Of entries in any order; those of items that are not known yet are left out."""
        known = np.flatnonzero(item <= items)
        order = known[np.argsort(window[known], kind="stable")]
        return cls(window[order], item[order], amount[order], items)

    def of(self, window: int) -> NDArray[np.float64]:
        """Of each item in this window: [N + 1]."""
        own = slice(*self.window.searchsorted([window, window + 1]))
        amounts = np.bincount(self.item[own], self.amount[own], minlength=self.items + 1)
        return amounts.astype(np.float64)


def _popularity(takers: _Amounts, first: int, last: int, opening: bool) -> NDArray[np.float32]:
    earliest = int(takers.window[0]) if len(takers.window) else first
    decayed, current = np.zeros((2, takers.items + 1))
    seen_at = np.full(takers.items + 1, np.inf)
    values = np.zeros((last - first + 1, takers.items + 1, len(POPULARITY)), dtype=np.float32)
    for w in range(min(earliest, first), last + 1):
        if w >= first and opening and w == earliest:
            own = takers.of(w)
            values[w - first] = _features(own, own, np.where(own > 0, 1.0, np.inf))
        elif w >= first:
            values[w - first] = _features(decayed, current, (w - seen_at).astype(np.float64))
        current = takers.of(w)
        decayed = DECAY * decayed + current
        seen_at = np.where((current > 0) & np.isinf(seen_at), w, seen_at)
    return values


def _features(
    decayed: NDArray[np.float64], current: NDArray[np.float64], age: NDArray[np.float64]
) -> NDArray[np.float32]:
    # Half a buyer for everyone: an item without sales keeps a finite logarithm.
    log_share = np.log((decayed + 0.5) / (decayed.sum() + 0.5 * len(decayed)))
    rate = current.sum() / decayed.sum() if decayed.any() else 1.0
    trend = np.log((current + PRIOR) / (rate * decayed + PRIOR))
    # Nobody took it yet: it trends as what many took in the last window, and nobody before.
    trend[decayed == 0] = -np.log(max(rate, 1.0 - DECAY))
    newness = np.where(np.isinf(age), 0.0, np.exp(-age / 4.0))
    return np.stack([log_share, trend, newness], axis=1).astype(np.float32)


def _lifts(takers: _Amounts, plans: Plans, first: int, last: int) -> NDArray[np.float32]:
    """LIFT for the starts of windows first..last: float32 [W, N + 1]. Takers count by how much was
    planned; PRIOR more, with and without plans, draw the ratio to one."""
    offers = _Amounts.ordered(plans.window, plans.item, plans.weight, takers.items)
    values = np.zeros((last - first + 1, takers.items + 1), np.float32)
    whole, drawn, planned = np.zeros((3, takers.items + 1))
    start = int(takers.window[0])
    for w in range(start, last + 1):
        if w >= first:
            expected = whole * planned / max(1, w - start)
            values[w - first] = np.log((drawn + PRIOR) / (expected + PRIOR))
        counted, weight = takers.of(w), offers.of(w)
        whole, drawn, planned = whole + counted, drawn + counted * weight, planned + weight
    return values


def _hazards(told: ItemReturns, items: int, first: int, last: int) -> NDArray[np.float32]:
    """RETURNS for the starts of windows first..last: float32 [W, N + 1, 3].

    Rates are those of the item and of PRIOR takers like all others (an empirical Bayes estimate
    with the shop as the prior).
    """
    values = np.zeros((last - first + 1, items + 1, len(RETURNS)), np.float32)
    takers, seconds, returns, gaps, exposed = np.zeros((5, items + 1))
    amounts = told.firsts, told.seconds, told.returns, told.gaps
    counts = [_Amounts.ordered(told.window, told.index, each, items) for each in amounts]
    start = int(told.window.min(initial=first))
    for w in range(min(start, first), last + 1):
        if w >= first:
            parts = (seconds, takers), (returns, exposed), (gaps, returns)
            for place, (part, whole) in enumerate(parts):
                values[w - first, 1:, place] = _against_all(part[1:], whole[1:])
        exposed += takers
        for total, counted in zip((takers, seconds, returns, gaps), counts, strict=True):
            total += counted.of(w)
    return values


def _against_all(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the log of an item's rate over that of all items; 0 while there is none."""
    if not (part.any() and whole.any()):
        return np.zeros(len(part))
    rate = part.sum() / whole.sum()
    mine = (part + PRIOR * rate) / (whole + PRIOR)
    return np.asarray(0.5 * np.log(mine / rate))
