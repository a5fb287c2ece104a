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
from recsys_lib.model.ragged import (
    falling,
    first_of_each,
    lengths_of,
    offsets_of,
    order_by,
    pad_right,
    spans,
)

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


@dataclass(frozen=True)
class Nearby:
    """CSR form: items near each history's latest events, the likeliest first.

    offsets int64 [B + 1]; items int32 [R]; features float32 [R, len(FEATURES)]
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    features: NDArray[np.float32]


def nearby(
    histories: Histories, known: Neighbours, events: int, limit: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """`near` as dense tensors: (int32 [B, C] 0 padded, float32 [B, C, len(FEATURES)])."""
    found = near(histories, known, events, limit)
    most = int(np.diff(found.offsets).max(initial=0))
    if not most:
        return nothing_near(len(histories))
    width = min(limit, 1 << max(0, (most - 1).bit_length()))
    items = pad_right(found.items, found.offsets, width, 0)
    return items, pad_right(found.features, found.offsets, width, 0.0)


def near(histories: Histories, known: Neighbours, events: int, limit: int) -> Nearby:
    """Items near the latest `events` of each history that are not in it, at most `limit`.

    Histories that carry a fold are answered without the events of that fold.
    """
    users = len(histories)
    lengths = lengths_of(histories.offsets)
    taken = np.minimum(lengths, events)
    at = spans(histories.offsets[1:] - taken, taken)
    row = np.arange(users).repeat(taken)
    back = histories.offsets[1:][row] - 1 - at
    source = histories.items[at].astype(np.int64)
    count = known.items.shape[1]
    if histories.fold is not None and len(known.items) > 1:
        source += (histories.fold[row].astype(np.int64) + 1) * count
    lists = known.items.reshape(-1, known.items.shape[2])[source]
    flat = np.flatnonzero(lists)
    item = lists.reshape(-1)[flat].astype(np.int64)
    entry = flat // lists.shape[1]
    order = order_by(row[entry], item)
    flat, entry, item = flat[order], entry[order], item[order]
    row, source = row[entry], source[entry]
    share = known.share.reshape(-1, known.share.shape[2])[source, flat % lists.shape[1]]
    key = (row << 31) | item
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])[: len(key)])
    new = ~_within(key[starts], (histories.row << 31) | histories.items)
    if not new.any():
        nothing = np.zeros((0, len(FEATURES)), np.float32)
        return Nearby(np.zeros(users + 1, np.int64), np.zeros(0, np.int32), nothing)

    mass = known.mass.reshape(-1)
    other = source - source % count + item
    cosine = share * np.sqrt(mass[source] / np.maximum(mass[other], np.float32(TINY)))
    fading = (RECENCY ** np.arange(events)).astype(np.float32)
    score = np.add.reduceat(share * fading[back[entry]], starts)
    row, item = row[starts], item[starts]
    total = np.bincount(row[new], weights=score[new], minlength=users)
    size = np.append(starts[1:], len(key)) - starts
    kept = np.flatnonzero(new)
    best = kept[order_by(row[kept], falling(score[kept]))]
    offsets = offsets_of(np.bincount(row[kept], minlength=users).astype(np.int64))
    chosen, offsets = first_of_each(offsets, limit)
    best = best[chosen]
    features = np.empty((len(best), len(FEATURES)), np.float32)
    features[:, 0] = score[best] / total[row[best]]
    features[:, 1] = np.add.reduceat(share, starts)[best]
    features[:, 2] = score[best]
    features[:, 3] = np.add.reduceat(cosine, starts)[best]
    features[:, 4] = size[best]
    features[:, 5] = np.maximum.reduceat(share, starts)[best]
    return Nearby(offsets, item[best].astype(np.int32), np.log(features + np.float32(TINY)))


def _within(keys: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the keys are among `own`."""
    if not len(own):
        return np.zeros(len(keys), bool)
    own = np.sort(own)
    place = np.minimum(np.searchsorted(own, keys), len(own) - 1)
    return np.asarray(own[place] == keys)
