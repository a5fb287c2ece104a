"""Items that were taken near one another: what makes a new item plausible for this user.

Item-to-item co-occurrence is state, not weights: it is counted from the events (see
`features.neighbours`), is as fresh as they are, and the network learns how far to trust it
(Linden, Smith and York 2003; Ludewig and Jannach 2018 on its strength in sessions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.compiled import gathered, heaviest, tabled
from recsys_lib.model.histories import Histories
from recsys_lib.model.ragged import offsets_of, pad_right

FEATURES = (
    "log_share",
    "log_share_of_all_events",
    "log_score",
    "log_cosine",
    "log_supporters",
    "log_best",
)
RECENCY = 0.75
"""Weight of an event one position earlier, in `log_share`."""
TINY = 1e-6


@dataclass(frozen=True)
class Neighbours:
    """The K items most often taken near each item.

    items  int32 [V, N + 1, K]    0 padded; V is 1 (all users), or 1 + FOLDS: then
                                  without the users of fold v - 1
    share  float32 [V, N + 1, K]  weight of the pair over the weight of all pairs of the item
    mass   float32 [V, N + 1]     that weight of all pairs
    """

    items: NDArray[np.int32]
    share: NDArray[np.float32]
    mass: NDArray[np.float32]

    @staticmethod
    def none(items: int) -> Neighbours:
        """Nothing is known to be near anything."""
        shape = (1, items + 1, 1)
        return Neighbours(
            np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros(shape[:2], np.float32)
        )


def merged(
    item: NDArray[np.int32],
    fold: NDArray[np.int32],
    other: NDArray[np.int32],
    weight: NDArray[np.float64],
    mass: NDArray[np.float64],
    kept: int,
) -> Neighbours:
    """The `kept` heaviest neighbours over all folds, and without each one of them.

    item, fold, other, weight: one entry per counted pair, any order; `mass` [folds, N + 1].
    """
    folds, width = mass.shape
    views = [np.ones(len(item), bool), *(fold != f for f in range(folds))]
    masses = [mass.sum(0), *(mass.sum(0) - mass[f] for f in range(folds))]
    parts = [
        _heaviest(item[v], other[v], weight[v], m, kept) for v, m in zip(views, masses, strict=True)
    ]
    return Neighbours(
        np.stack([items for items, _ in parts]),
        np.stack([share for _, share in parts]),
        np.stack(masses).astype(np.float32).reshape(-1, width),
    )


def _heaviest(
    item: NDArray[np.int32],
    other: NDArray[np.int32],
    weight: NDArray[np.float64],
    mass: NDArray[np.float64],
    kept: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    known = other < len(mass)
    key = item[known].astype(np.int64) * 2**31 + other[known]
    pairs, place = np.unique(key, return_inverse=True)
    total = np.bincount(place, weights=weight[known], minlength=len(pairs)).astype(np.float32)
    item, other = pairs // 2**31, (pairs % 2**31).astype(np.int32)
    all_pairs = offsets_of(np.bincount(item, minlength=len(mass)).astype(np.int64))
    best, offsets = heaviest(all_pairs, total, kept)
    share = (total[best] / np.maximum(mass[item[best]], TINY)).astype(np.float32)
    return pad_right(other[best], offsets, kept, 0), pad_right(share, offsets, kept, 0.0)


@dataclass(frozen=True)
class Nearby:
    """CSR form: items near each history's latest events.

    offsets int64 [B + 1]; items int32 [R]; features float32 [len(FEATURES), R]
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    features: NDArray[np.float32]

    @staticmethod
    def none(users: int) -> Nearby:
        """Nothing is near anybody."""
        nothing = np.zeros((len(FEATURES), 0), np.float32)
        return Nearby(np.zeros(users + 1, np.int64), np.zeros(0, np.int32), nothing)

    def padded(self, limit: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """As dense tensors: (int32 [B, C] 0 padded, float32 [B, C, F]); C is a power of two, or
        `limit`, which no row exceeds."""
        most = int(np.diff(self.offsets).max(initial=0))
        width = min(limit, 1 << max(0, (most - 1).bit_length()))
        items = pad_right(self.items, self.offsets, width, 0)
        return items, tabled(self.offsets, self.features, width)


def near(histories: Histories, known: Neighbours, events: int, limit: int) -> Nearby:
    """Items near the latest `events` of each history that are not in it, at most `limit`, the
    likeliest.

    Histories that carry a fold are answered without the events of that fold.
    """
    view = np.zeros(len(histories), np.int64)
    if histories.fold is not None and len(known.items) > 1:
        view += histories.fold + np.int64(1)
    fading = (RECENCY ** np.arange(events)).astype(np.float32)
    told = histories.offsets, histories.items, view, known.items, known.share, known.mass
    offsets, items, features = gathered(*told, fading, TINY, limit)
    features += np.float32(TINY)
    return Nearby(offsets, items, np.log(features, out=features))
