"""Histories -> the dense tensors that the network reads. Training and serving share this code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.affinity import with_affinity
from recsys_lib.model.compiled import dated, tabled
from recsys_lib.model.copies import copies
from recsys_lib.model.histories import Histories, Ints
from recsys_lib.model.neighbours import Nearby, Neighbours
from recsys_lib.model.neighbours import near as found_near
from recsys_lib.model.plans import Plans
from recsys_lib.model.ragged import lengths_of, pad_left, pad_right

EVENT_FACTS = ("log_time_to_decision", "log_time_to_next", "log_value")
NOTHING = np.zeros(0, np.float32)


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
    copy_items, copy_types      int32 [B, M]  distinct past items, 0 padded
    copy_features               float32 [B, M, len(copies.COPY_FEATURES) + G]
    near_items                  int32 [B, C]  items near the latest events, 0 padded
    near_features               float32 [B, C, len(neighbours.FEATURES) + G]
    user_features               float32 [B, len(copies.USER_FEATURES)]
    profile                     int32 [B, P]

    G = A * len(affinity.FEATURES), of A attributes; 0 where these are not asked for.
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
    histories: Histories,
    recent: int,
    copied_items: int,
    decay: float,
    near: Near | None = None,
    attributes: Ints | None = None,
    plans: Plans | None = None,
) -> Inputs:
    """Dense tensors of these histories, as wide as the longest of them needs (at most the limits).

    `decay` is the weight of a count per window of age; without `near` no item is near. `attributes`
    of items int32 [N + 1, A]; None: their kinds are not compared. `plans`: what was planned when
    they were taken; None: nothing. Widths are rounded up to powers of two so that a compiled graph
    is traced for few shapes.
    """
    age = ages(histories)
    lengths = lengths_of(histories.offsets)
    width = _round_up(int(lengths.max(initial=1)), recent)
    copied = copies(histories, age, copied_items, decay, plans)
    wide = _round_up(int(np.diff(copied.offsets).max(initial=1)), copied_items)
    beside, limit = Nearby.none(len(histories)), 1
    if near is not None:
        beside, limit = found_near(histories, near.known, near.events, near.limit), near.limit
    if attributes is not None:
        copied, beside = with_affinity(copied, beside, attributes)
    near_items, near_features = beside.padded(limit)
    return Inputs(
        recent_items=pad_left(histories.items, histories.offsets, width, 0),
        recent_types=pad_left(histories.types, histories.offsets, width, 0),
        recent_facts=event_facts(histories, age, width),
        copy_items=pad_right(copied.items, copied.offsets, wide, 0),
        copy_types=pad_right(copied.types, copied.offsets, wide, 0),
        copy_features=tabled(copied.offsets, copied.features, wide),
        near_items=near_items,
        near_features=near_features,
        user_features=copied.user_features,
        profile=histories.profile,
    )


def ages(histories: Histories) -> NDArray[np.float32]:
    """Windows from each event to its decision, never negative; 0 where a time is unknown."""
    age = histories.now[histories.row] - histories.at
    return np.fmax(age, np.float32(0)).astype(np.float32, copy=False)


def event_facts(histories: Histories, age: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Of the latest `width` events, right-aligned: log of time from each to the decision, of time
    to the next, and of its value: float32 [B, width, len(EVENT_FACTS)]. Nothing and less than
    nothing (a return) are worth 0."""
    values = NOTHING if histories.values is None else histories.values
    facts = dated(histories.offsets, age, values, width)
    return np.log1p(facts, out=facts)


def _round_up(longest: int, limit: int) -> int:
    return min(limit, 1 << max(0, int(longest - 1).bit_length()))
