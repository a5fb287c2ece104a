"""Items that were taken near one another: what makes a new item plausible for this user.

Item-to-item co-occurrence is state, not weights: it is counted from the events (see
`features.neighbours`), is as fresh as they are, and the network learns how far to trust it
(Linden, Smith and York 2003; Ludewig and Jannach 2018 on its strength in sessions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.histories import Histories
from recsys_lib.model.ragged import offsets_of, pad_right, spans

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
    total = np.bincount(place, weights=weight[known], minlength=len(pairs))
    item, other = (pairs // 2**31).astype(np.int64), (pairs % 2**31).astype(np.int32)
    best = np.lexsort((other, -total, item))
    offsets = offsets_of(np.bincount(item, minlength=len(mass)).astype(np.int64))
    share = (total / np.maximum(mass[item], TINY)).astype(np.float32)
    return pad_right(other[best], offsets, kept, 0), pad_right(share[best], offsets, kept, 0.0)


def nothing_near(users: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """What `nearby` answers when it finds nothing."""
    return np.zeros((users, 1), np.int32), np.zeros((users, 1, len(FEATURES)), np.float32)


def nearby(
    histories: Histories, known: Neighbours, events: int, limit: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Items near the latest `events` of each history that are not in it, the likeliest first.

    (int32 [B, C] 0 padded, float32 [B, C, len(FEATURES)]), C at most `limit`. Histories that carry
    a fold are answered without the events of that fold.
    """
    users = len(histories)
    lengths = np.diff(histories.offsets)
    taken = np.minimum(lengths, events)
    at = spans(histories.offsets[1:] - taken, taken)
    row = np.repeat(np.arange(users), taken)
    back = np.repeat(taken, taken) - 1 - spans(np.zeros_like(taken), taken)
    source = histories.items[at]
    version = np.zeros(users, np.int64)
    if histories.fold is not None and len(known.items) > 1:
        version = histories.fold.astype(np.int64) + 1
    view = version[row]
    ids = known.items[view, source]
    entry, column = np.nonzero(ids)
    if not len(entry):
        return nothing_near(users)
    item = ids[entry, column].astype(np.int64)
    share = known.share[view, source][entry, column]
    row, back, view, source = row[entry], back[entry], view[entry], source[entry]
    cosine = share * np.sqrt(known.mass[view, source] / np.maximum(known.mass[view, item], TINY))

    key = row * np.int64(2**31) + item
    own = np.unique(histories.row * np.int64(2**31) + histories.items)
    place = np.minimum(np.searchsorted(own, key), len(own) - 1)
    new = np.flatnonzero(own[place] != key)
    new = new[np.argsort(key[new], kind="stable")]
    if not len(new):
        return nothing_near(users)
    key, share, cosine, back = key[new], share[new], cosine[new], back[new]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    row, item = key[starts] // 2**31, (key[starts] % 2**31).astype(np.int32)
    score = np.add.reduceat(share * RECENCY**back, starts)
    total = np.bincount(row, weights=score, minlength=users)
    features = np.log(
        np.stack(
            [
                score / total[row],
                np.add.reduceat(share, starts),
                score,
                np.add.reduceat(cosine, starts),
                np.diff(np.append(starts, len(key))),
                np.maximum.reduceat(share, starts),
            ],
            axis=1,
        )
        + TINY
    ).astype(np.float32)
    best = np.lexsort((item, -score, row))
    offsets = offsets_of(np.bincount(row, minlength=users).astype(np.int64))
    most = int(np.diff(offsets).max())
    limit = min(limit, 1 << max(0, (most - 1).bit_length()))
    return pad_right(item[best], offsets, limit, 0), pad_right(features[best], offsets, limit, 0.0)
