"""What a user has had before, item by item: how often, how lately, how regularly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_lib.model.compiled import counted
from recsys_lib.model.histories import Floats, Histories, Ints, Offsets
from recsys_lib.model.ragged import lengths_of

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
class Copies:
    """CSR form: the distinct past items of each history, the most frequent first.

    offsets int64 [B + 1]; items, types int32 [R]; features float32 [R, len(COPY_FEATURES)];
    user_features float32 [B, len(USER_FEATURES)]
    """

    offsets: Offsets
    items: Ints
    types: Ints
    features: Floats
    user_features: Floats


def copies(histories: Histories, age: Floats, limit: int, decay: float) -> Copies:
    """The past items that the copy head ranks, at most `limit` of each history.

    `age` float32 [E]: windows from each event to its decision (see `inputs.ages`).
    """
    weight, recent = np.exp(age * np.float32(np.log(decay))), np.exp(age * _RECENT)
    offsets, visits, distinct, whole, sums = counted(
        histories.offsets, histories.items, histories.at, weight, recent, limit
    )
    (first, last, times, visited, visit_first, visit_last), (decayed, fresh) = whole, sums
    lengths = lengths_of(histories.offsets)
    user = np.arange(len(histories)).repeat(lengths_of(offsets))
    oldest, latest = age[first], age[last]
    since = histories.offsets[1:][user] - 1 - last
    twice = visited > 1
    usual = (oldest - latest) / np.maximum(visited - 1, 1).astype(np.float32)
    positive = np.empty((10, len(first)), np.float32)
    positive[0], positive[1] = decayed, fresh + np.float32(1e-4)
    positive[2], positive[3] = times, times / lengths[user]
    positive[4], positive[5] = 1 + latest, 1 + oldest
    positive[6], positive[7] = 1 + since, visits[user] - visit_last
    positive[8] = np.where(twice, 1 + usual, 1)
    positive[9] = np.where(twice, (latest + np.float32(0.1)) / (usual + np.float32(0.1)), 1)
    log = np.log(positive)
    features = np.empty((len(first), len(COPY_FEATURES)), np.float32)
    features[:, :7] = log[:7].T
    features[:, 7], features[:, 8] = since == 0, twice
    features[:, 9] = np.clip(log[9], -4, 4)
    features[:, 10] = visited / np.maximum(visits[user] - visit_first, 1)
    features[:, 11], features[:, 12] = log[7], log[8]
    return Copies(
        offsets=offsets,
        items=histories.items[last],
        types=histories.types[last],
        features=features,
        user_features=_user_features(histories, lengths, distinct, visits, age),
    )


_RECENT = np.float32(np.log(RECENT_DECAY))


def _user_features(
    histories: Histories, lengths: Offsets, distinct: Offsets, visits: Offsets, age: Floats
) -> Floats:
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
