"""Histories -> the dense tensors that the network reads. Training and serving share this code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.histories import Histories
from recsys_lib.model.neighbours import Neighbours, nearby, nothing_near
from recsys_lib.model.ragged import offsets_of, pad_left, pad_right, spans

COPY_FEATURES = (
    "log_decayed_count",
    "log_recent_count",
    "log_count",
    "log_share_of_user",
    "log_weeks_since_last",
    "log_weeks_since_first",
    "log_events_since_last",
    "is_last_event",
    "bought_twice",
    "log_gap_over_usual_gap",
    "rate_per_visit",
    "visits_since_last",
    "log_usual_gap",
)
USER_FEATURES = (
    "log_events",
    "log_items",
    "share_repeated",
    "log_weeks_since_visit",
    "log_weeks_known",
    "log_visits",
)
RECENT_DECAY = 0.7
"""Weight of a count one window later, in `log_recent_count`."""


@dataclass(frozen=True)
class Near:
    """What is known of neighbours, and how far to look: latest events, items."""

    known: Neighbours
    events: int
    limit: int


@dataclass(frozen=True)
class Inputs:
    """Dense tensors of B histories.

    recent_items, recent_types  int32 [B, L]  latest events, right-aligned, 0 padded
    recent_gaps                 float32 [B, L, 2]  log time from event to decision, and to the next
    copy_items, copy_types      int32 [B, M]  distinct past items, most frequent first, 0 padded
    copy_features               float32 [B, M, len(COPY_FEATURES)]
    near_items                  int32 [B, C]  items near the latest events, 0 padded
    near_features               float32 [B, C, len(neighbours.FEATURES)]
    user_features               float32 [B, len(USER_FEATURES)]
    profile                     int32 [B, P]
    """

    recent_items: NDArray[np.int32]
    recent_types: NDArray[np.int32]
    recent_gaps: NDArray[np.float32]
    copy_items: NDArray[np.int32]
    copy_types: NDArray[np.int32]
    copy_features: NDArray[np.float32]
    near_items: NDArray[np.int32]
    near_features: NDArray[np.float32]
    user_features: NDArray[np.float32]
    profile: NDArray[np.int32]

    def as_dict(self) -> dict[str, NDArray]:
        return dict(vars(self))


def inputs(
    histories: Histories, recent: int, copies: int, decay: float, near: Near | None = None
) -> Inputs:
    """Dense tensors of these histories, as wide as the longest of them needs (at most the limits).

    `decay` is the weight of a count per window of age; without `near` no item is near. Widths are
    rounded up to powers of two so that a compiled graph is traced for few shapes.
    """
    age = _age(histories)
    lengths = np.diff(histories.offsets)
    width = _round_up(int(lengths.max(initial=1)), recent)
    to_next = np.zeros(len(age), dtype=np.float32)
    to_next[:-1] = age[:-1] - age[1:]
    to_next[histories.offsets[1:][lengths > 0] - 1] = 0.0
    gaps = np.stack([np.log1p(age), np.log1p(np.maximum(to_next, 0.0))], axis=1)
    copied = _copies(histories, age, copies, decay)
    near_items, near_features = nothing_near(len(histories))
    if near is not None:
        near_items, near_features = nearby(histories, near.known, near.events, near.limit)
    return Inputs(
        recent_items=pad_left(histories.items, histories.offsets, width, 0),
        recent_types=pad_left(histories.types, histories.offsets, width, 0),
        recent_gaps=pad_left(gaps.astype(np.float32), histories.offsets, width, 0.0),
        copy_items=copied.items,
        copy_types=copied.types,
        copy_features=copied.features,
        near_items=near_items,
        near_features=near_features,
        user_features=copied.user_features,
        profile=histories.profile,
    )


def _age(histories: Histories) -> NDArray[np.float32]:
    """Windows from each event to its decision, never negative; 0 where a time is unknown."""
    age = histories.now[histories.row] - histories.at
    return np.nan_to_num(np.maximum(age, 0.0), nan=0.0).astype(np.float32)


def _round_up(longest: int, limit: int) -> int:
    return min(limit, 1 << max(0, int(longest - 1).bit_length()))


@dataclass(frozen=True)
class _Copies:
    items: NDArray[np.int32]
    types: NDArray[np.int32]
    features: NDArray[np.float32]
    user_features: NDArray[np.float32]


def _copies(histories: Histories, age: NDArray[np.float32], limit: int, decay: float) -> _Copies:
    users = len(histories)
    row, lengths = histories.row, np.diff(histories.offsets)
    visit, visits = _visits(histories, row)
    known = histories.items > 0
    row, items, age_known = row[known], histories.items[known], age[known]
    position = (np.repeat(lengths, lengths) - 1 - spans(np.zeros_like(lengths), lengths))[known]
    visit, types = visit[known], histories.types[known]

    order = np.argsort(row * np.int64(2**31) + items, kind="stable")
    row, items, age_known = row[order], items[order], age_known[order]
    position, visit, types = position[order], visit[order], types[order]
    head = np.ones(len(row), dtype=bool)
    head[1:] = (row[1:] != row[:-1]) | (items[1:] != items[:-1])
    starts = np.flatnonzero(head)
    ends = np.append(starts[1:], len(row))[: len(starts)]
    user = row[starts]
    if not len(starts):
        return _empty(histories, visits, age)

    # Events are oldest first, so a group's first row is the first purchase, its last the latest.
    first, last = starts, ends - 1
    count = (ends - starts).astype(np.float32)
    new_visit = head.copy()
    new_visit[1:] |= visit[1:] != visit[:-1]
    bought_on = np.add.reduceat(new_visit.astype(np.float32), starts)
    decayed = np.add.reduceat(decay**age_known, starts)
    fresh = np.add.reduceat(RECENT_DECAY**age_known, starts)
    usual = (age_known[first] - age_known[last]) / np.maximum(bought_on - 1, 1)
    twice = bought_on > 1
    since_last = np.log1p(age_known[last])
    ratio = np.where(twice, np.log((age_known[last] + 0.1) / (usual + 0.1)), 0.0)
    features = np.stack(
        [
            np.log(decayed),
            np.log(fresh + 1e-4),
            np.log(count),
            np.log(count / lengths[user]),
            since_last,
            np.log1p(age_known[first]),
            np.log1p(position[last]),
            (position[last] == 0).astype(np.float32),
            twice.astype(np.float32),
            np.clip(ratio, -4, 4),
            bought_on / np.maximum(visits[user] - visit[first], 1),
            np.log1p(visits[user] - 1 - visit[last]),
            np.where(twice, np.log1p(usual), 0.0),
        ],
        axis=1,
    ).astype(np.float32)

    distinct = np.bincount(user, minlength=users)
    best = np.lexsort((items[starts], -decayed, user))
    width = _round_up(int(distinct.max(initial=1)), limit)
    offsets = offsets_of(distinct.astype(np.int64))
    return _Copies(
        items=pad_right(items[starts][best], offsets, width, 0),
        types=pad_right(types[last][best], offsets, width, 0),
        features=pad_right(features[best], offsets, width, 0.0),
        user_features=_user_features(histories, lengths, distinct, visits, age),
    )


def _visits(
    histories: Histories, row: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of each event's visit within its history (events at one time are one visit)."""
    at = np.nan_to_num(histories.at, nan=-1.0)
    begins = np.ones(len(row), dtype=bool)
    begins[1:] = (row[1:] != row[:-1]) | (at[1:] != at[:-1])
    visit = np.cumsum(begins) - 1
    before = np.append(visit, 0)[histories.offsets[:-1]]
    visits = np.bincount(row[begins], minlength=len(histories))
    return visit - before[row], visits


def _user_features(
    histories: Histories,
    lengths: NDArray[np.int64],
    distinct: NDArray[np.int64],
    visits: NDArray[np.int64],
    age: NDArray[np.float32],
) -> NDArray[np.float32]:
    some = lengths > 0
    padded = np.append(age, np.float32(0))
    last = np.where(some, padded[np.maximum(histories.offsets[1:] - 1, 0)], 0.0)
    first = np.where(some, padded[histories.offsets[:-1]], 0.0)
    return np.stack(
        [
            np.log1p(lengths),
            np.log1p(distinct),
            1.0 - distinct / np.maximum(lengths, 1),
            np.log1p(last),
            np.log1p(first),
            np.log1p(visits),
        ],
        axis=1,
    ).astype(np.float32)


def _empty(histories: Histories, visits: NDArray[np.int64], age: NDArray[np.float32]) -> _Copies:
    users, lengths = len(histories), np.diff(histories.offsets)
    none = np.zeros((users, 1), dtype=np.int32)
    features = np.zeros((users, 1, len(COPY_FEATURES)), dtype=np.float32)
    distinct = np.zeros(users, dtype=np.int64)
    user = _user_features(histories, lengths, distinct, visits, age)
    return _Copies(none, none, features, user)
