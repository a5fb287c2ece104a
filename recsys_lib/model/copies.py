"""What a user has had before, item by item: how often, how lately, how regularly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_lib.model.compiled import counted, regular
from recsys_lib.model.histories import Floats, Histories, Ints, Offsets
from recsys_lib.model.plans import Plans

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
    "planned_when_taken",
)
USER_FEATURES = (
    "log_events",
    "log_items",
    "share_repeated",
    "log_weeks_since_visit",
    "log_weeks_known",
    "log_visits",
    "planned_when_taken",
)
RECENT_DECAY = 0.7
"""Weight of a count one window later, in `log_recent_count`."""
LITTLE = 1e-4
"""Added to such a count, which may be nothing at all."""


@dataclass(frozen=True)
class Copies:
    """CSR form: the distinct past items of each history.

    offsets int64 [B + 1]; items, types int32 [R]; features float32 [len(COPY_FEATURES), R];
    user_features float32 [B, len(USER_FEATURES)]
    """

    offsets: Offsets
    items: Ints
    types: Ints
    features: Floats
    user_features: Floats


def copies(
    histories: Histories, age: Floats, limit: int, decay: float, plans: Plans | None = None
) -> Copies:
    """The past items that the copy head ranks, of each history at most `limit`, the most frequent.

    `age` float32 [E]: windows from each event to its decision (see `inputs.ages`). Without `plans`
    nothing was planned when it was taken.
    """
    weight, recent = np.exp(age * np.float32(np.log(decay))), np.exp(age * _RECENT)
    planned = np.zeros(len(age), np.float32) if plans is None else plans.when_taken(histories)
    offsets, numbers, whole, sums, offered = counted(
        histories.offsets, histories.items, histories.at, weight, recent, planned, limit
    )
    features, told = regular(histories.offsets, offsets, numbers, whole, sums, age, LITTLE)
    for rows in _LOGS:
        np.log(features[rows], out=features[rows])
    np.clip(features[_GAP], -4, 4, out=features[_GAP])
    users = np.empty((len(told), len(USER_FEATURES)), np.float32)
    np.log1p(told, out=users[:, :6])
    users[:, 2], users[:, 6] = told[:, 2], offered
    last = whole[1]
    return Copies(
        offsets=offsets,
        items=histories.items[last],
        types=histories.types[last],
        features=features,
        user_features=users,
    )


_RECENT = np.float32(np.log(RECENT_DECAY))
_GAP = COPY_FEATURES.index("log_gap_over_usual_gap")
_LOGS = slice(0, 7), slice(_GAP, _GAP + 1), slice(11, 13)
