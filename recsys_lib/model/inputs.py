"""Histories -> the dense tensors that the network reads. Training and serving share this code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.histories import Histories
from recsys_lib.model.neighbours import Neighbours, nearby, nothing_near
from recsys_lib.model.ragged import (
    falling,
    first_of_each,
    lengths_of,
    offsets_of,
    order_by,
    pad_left,
    pad_right,
)

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
EVENT_FACTS = ("log_time_to_decision", "log_time_to_next", "log_value")
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
    recent_facts                 float32 [B, L, len(EVENT_FACTS)]  of the latest events
    copy_items, copy_types      int32 [B, M]  distinct past items, most frequent first, 0 padded
    copy_features               float32 [B, M, len(COPY_FEATURES)]
    near_items                  int32 [B, C]  items near the latest events, 0 padded
    near_features               float32 [B, C, len(neighbours.FEATURES)]
    user_features               float32 [B, len(USER_FEATURES)]
    profile                     int32 [B, P]
    """

    recent_items: NDArray[np.int32]
    recent_types: NDArray[np.int32]
    recent_facts: NDArray[np.float32]
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
    histories: Histories, recent: int, copied_items: int, decay: float, near: Near | None = None
) -> Inputs:
    """Dense tensors of these histories, as wide as the longest of them needs (at most the limits).

    `decay` is the weight of a count per window of age; without `near` no item is near. Widths are
    rounded up to powers of two so that a compiled graph is traced for few shapes.
    """
    age = ages(histories)
    lengths = lengths_of(histories.offsets)
    width = _round_up(int(lengths.max(initial=1)), recent)
    facts = event_facts(histories, age)
    copied = copies(histories, age, copied_items, decay)
    wide = _round_up(int(np.diff(copied.offsets).max(initial=1)), copied_items)
    near_items, near_features = nothing_near(len(histories))
    if near is not None:
        near_items, near_features = nearby(histories, near.known, near.events, near.limit)
    return Inputs(
        recent_items=pad_left(histories.items, histories.offsets, width, 0),
        recent_types=pad_left(histories.types, histories.offsets, width, 0),
        recent_facts=pad_left(facts, histories.offsets, width, 0.0),
        copy_items=pad_right(copied.items, copied.offsets, wide, 0),
        copy_types=pad_right(copied.types, copied.offsets, wide, 0),
        copy_features=pad_right(copied.features, copied.offsets, wide, 0.0),
        near_items=near_items,
        near_features=near_features,
        user_features=copied.user_features,
        profile=histories.profile,
    )


def ages(histories: Histories) -> NDArray[np.float32]:
    """Windows from each event to its decision, never negative; 0 where a time is unknown."""
    age = histories.now[histories.row] - histories.at
    return np.fmax(age, np.float32(0)).astype(np.float32, copy=False)


def event_facts(histories: Histories, age: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log of time from each event to the decision, of time to the next event, and of its value:
    float32 [E, len(EVENT_FACTS)]. Nothing and less than nothing (a return) are worth 0."""
    facts = np.zeros((len(age), len(EVENT_FACTS)), np.float32)
    facts[:, 0] = age
    facts[:-1, 1] = age[:-1] - age[1:]
    lengths = lengths_of(histories.offsets)
    facts[histories.offsets[1:][lengths > 0] - 1, 1] = 0.0
    if histories.values is not None:
        facts[:, 2] = histories.values
    return np.log1p(np.fmax(facts, np.float32(0)))


def _round_up(longest: int, limit: int) -> int:
    return min(limit, 1 << max(0, int(longest - 1).bit_length()))


@dataclass(frozen=True)
class Copies:
    """CSR form: the distinct past items of each history, the most frequent first.

    offsets int64 [B + 1]; items, types int32 [R]; features float32 [R, len(COPY_FEATURES)];
    user_features float32 [B, len(USER_FEATURES)]
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    types: NDArray[np.int32]
    features: NDArray[np.float32]
    user_features: NDArray[np.float32]


def copies(histories: Histories, age: NDArray[np.float32], limit: int, decay: float) -> Copies:
    """The past items that the copy head ranks, at most `limit` of each history."""
    users = len(histories)
    row, lengths = histories.row, lengths_of(histories.offsets)
    visit, visits = _visits(histories, row)
    place = (histories.items > 0).nonzero()[0]
    place = place[order_by(row[place], histories.items[place].astype(np.int64))]
    if not len(place):
        return _empty(histories, visits, age)
    row, items, old = row[place], histories.items[place], age[place]
    position, visit = histories.offsets[1:][row] - 1 - place, visit[place]
    head = np.ones(len(row), dtype=bool)
    head[1:] = (row[1:] != row[:-1]) | (items[1:] != items[:-1])
    new_visit = head.copy()
    new_visit[1:] |= visit[1:] != visit[:-1]
    starts = head.nonzero()[0]
    decayed = np.add.reduceat(np.float32(decay) ** old, starts)
    fresh = np.add.reduceat(np.float32(RECENT_DECAY) ** old, starts)
    bought_on = np.add.reduceat(new_visit.astype(np.float32), starts)
    ends = np.append(starts[1:], len(row))

    distinct = np.bincount(row[starts], minlength=users).astype(np.int64)
    best = order_by(row[starts], falling(decayed))  # groups stand by item, so that decides ties
    chosen, offsets = first_of_each(offsets_of(distinct), limit)
    best = best[chosen]
    # Events are oldest first, so a group's first row is the first purchase, its last the latest.
    first, last, user = starts[best], ends[best] - 1, row[starts[best]]
    bought_on, seen = bought_on[best], visits[user]
    twice = bought_on > 1
    usual = (old[first] - old[last]) / np.maximum(bought_on - 1, 1)
    positive = np.empty((10, len(best)), np.float32)
    positive[0], positive[1] = decayed[best], fresh[best] + np.float32(1e-4)
    positive[2] = last - first + 1
    positive[3] = positive[2] / lengths[user]
    positive[4], positive[5] = 1 + old[last], 1 + old[first]
    positive[6] = 1 + position[last]
    positive[7] = seen - visit[last]
    positive[8] = np.where(twice, 1 + usual, 1)
    positive[9] = np.where(twice, (old[last] + 0.1) / (usual + 0.1), 1)
    log = np.log(positive)
    features = np.empty((len(best), len(COPY_FEATURES)), np.float32)
    features[:, :7] = log[:7].T
    features[:, 7] = position[last] == 0
    features[:, 8] = twice
    features[:, 9] = np.clip(log[9], -4, 4)
    features[:, 10] = bought_on / np.maximum(seen - visit[first], 1)
    features[:, 11], features[:, 12] = log[7], log[8]
    return Copies(
        offsets=offsets,
        items=items[first],
        types=histories.types[place[last]],
        features=features,
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


def _empty(histories: Histories, visits: NDArray[np.int64], age: NDArray[np.float32]) -> Copies:
    users, lengths = len(histories), lengths_of(histories.offsets)
    none = np.zeros(0, dtype=np.int32)
    features = np.zeros((0, len(COPY_FEATURES)), dtype=np.float32)
    distinct = np.zeros(users, dtype=np.int64)
    user = _user_features(histories, lengths, distinct, visits, age)
    return Copies(np.zeros(users + 1, np.int64), none, none, features, user)
