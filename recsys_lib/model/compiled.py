"""Loops over events that no array operation says well: compiled once, kept for later processes.

They stand in one file because what is kept is held against the file that it was compiled from, and
against none that this one calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.histories import Floats, Ints, Offsets

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """Machine code of `loop`, which threads may run side by side. It is kept beside the module or
    in the user's cache; where neither can be written, each process compiles for itself."""
    try:
        made = numba.njit(cache=True, nogil=True)(loop)
    except RuntimeError:
        made = numba.njit(nogil=True)(loop)
    return cast(Loop, made)


@compiled
def slots_for(keys: int) -> NDArray[np.int32]:
    """An empty hash table for so many different keys: -1 in each slot."""
    size = 16
    while size < 2 * keys:
        size *= 2
    return np.full(size, -1, np.int32)


@compiled
def slot_of(slots: NDArray[np.int32], keys: NDArray[np.int32], key: int | np.int32) -> int:
    """The slot that holds the place of `key` in `keys`, or the empty one where it belongs."""
    last = len(slots) - 1
    slot = ((key * 0x9E3779B1) >> 8) & last
    while slots[slot] >= 0 and keys[slots[slot]] != key:
        slot = (slot + 1) & last
    return int(slot)


@compiled
def best_first(
    score: NDArray[np.float32], keys: NDArray[np.int32], slots: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Places of `keys` by falling score, all positive; of equal ones the smaller key first.

    `slots` holds all the keys. Bits of positive floats rise as these do, so one sort of whole
    numbers tells score and key, and the key tells the place.
    """
    mixed = np.empty(len(keys), np.int64)
    bits = score.view(np.int32)
    for place in range(len(keys)):
        mixed[place] = (np.int64(0x7FFFFFFF - bits[place]) << 32) | keys[place]
    mixed.sort()
    order = np.empty(len(keys), np.int32)
    for place in range(len(keys)):
        order[place] = slots[slot_of(slots, keys, np.int32(mixed[place] & 0xFFFFFFFF))]
    return order


@compiled
def heaviest(offsets: Offsets, weight: Floats, most: int) -> tuple[Offsets, Offsets]:
    """Places of the `most` largest weights, all positive, of each row offsets[r] : offsets[r + 1],
    the largest first and of equal ones the first; and the offsets of these: int64 [R], [B + 1]."""
    rows = len(offsets) - 1
    bits = weight.view(np.int32)
    chosen, cuts = np.empty(len(weight), np.int64), np.zeros(rows + 1, np.int64)
    for row in range(rows):
        start, end = offsets[row], offsets[row + 1]
        mixed = np.empty(end - start, np.int64)
        for place in range(start, end):
            mixed[place - start] = (np.int64(0x7FFFFFFF - bits[place]) << 32) | (place - start)
        mixed.sort()
        kept = min(most, end - start)
        for rank in range(kept):
            chosen[cuts[row] + rank] = start + (mixed[rank] & 0xFFFFFFFF)
        cuts[row + 1] = cuts[row] + kept
    return chosen[: cuts[rows]], cuts


@compiled
def counted(
    offsets: Offsets, items: Ints, at: Floats, weight: Floats, recent: Floats, limit: int
) -> tuple[Offsets, Offsets, Offsets, NDArray[np.int64], Floats]:
    """One pass over the events of each history, and a sort of its distinct items.

    Offsets int64 [B + 1]; visits and distinct items int64 [B]; int64 [6, R]: places of the first
    and of the last event, number of events and of visits, numbers of the first and last visit;
    float32 [2, R]: sums of `weight` and of `recent`. Events at one time are one visit.
    """
    users = len(offsets) - 1
    longest, room = 0, 0
    for user in range(users):
        length = offsets[user + 1] - offsets[user]
        longest, room = max(longest, length), room + min(length, limit)
    slots = slots_for(longest)
    keys = np.empty(longest, np.int32)
    own, sums = np.empty((6, longest), np.int64), np.empty((2, longest), np.float32)
    whole, summed = np.empty((6, room), np.int64), np.empty((2, room), np.float32)
    cuts, visits = np.zeros(users + 1, np.int64), np.zeros(users, np.int64)
    distinct = np.zeros(users, np.int64)
    for user in range(users):
        found, visit = 0, -1
        before = np.float32(0)
        for event in range(offsets[user], offsets[user + 1]):
            time = at[event]
            if visit < 0 or (time != before and not (np.isnan(time) and np.isnan(before))):
                visit += 1
            before = time
            if items[event] <= 0:
                continue
            slot = slot_of(slots, keys, items[event])
            place = slots[slot]
            if place < 0:
                place = slots[slot] = found
                found += 1
                keys[place] = items[event]
                own[0, place], own[2, place], own[3, place] = event, 0, 0
                own[4, place], own[5, place] = visit, -1
                sums[0, place] = sums[1, place] = np.float32(0)
            own[1, place] = event
            own[2, place] += 1
            own[3, place] += visit != own[5, place]
            own[5, place] = visit
            sums[0, place] += weight[event]
            sums[1, place] += recent[event]
        visits[user], distinct[user] = visit + 1, found
        order = best_first(sums[0, :found], keys[:found], slots)
        start = cuts[user]
        cuts[user + 1] = start + min(found, limit)
        for rank in range(min(found, limit)):
            for number in range(6):
                whole[number, start + rank] = own[number, order[rank]]
            summed[0, start + rank] = sums[0, order[rank]]
            summed[1, start + rank] = sums[1, order[rank]]
        slots[:] = -1
    total = cuts[users]
    return cuts, visits, distinct, whole[:, :total], summed[:, :total]


@compiled
def gathered(
    offsets: Offsets,
    items: Ints,
    view: Offsets,
    lists: NDArray[np.int32],
    shares: NDArray[np.float32],
    mass: NDArray[np.float32],
    fading: Floats,
    tiny: float,
    limit: int,
) -> tuple[Offsets, Ints, Floats]:
    """Offsets int64 [B + 1], items int32 [R] and the features before their logarithm. `fading`
    [events]: weight of an event by how many came after it. `view` [B] of the neighbours."""
    users, events, width = len(offsets) - 1, len(fading), lists.shape[2]
    longest = 0
    for user in range(users):
        longest = max(longest, offsets[user + 1] - offsets[user])
    most = min(longest, events) * width
    had = slots_for(longest), np.empty(longest, np.int32)
    slots, keys = slots_for(most), np.empty(most, np.int32)
    sums, score = np.empty((most, 4), np.float32), np.empty(most, np.float32)
    room = users * min(limit, most)
    out, features = np.empty(room, np.int32), np.empty((room, 6), np.float32)
    cuts = np.zeros(users + 1, np.int64)
    for user in range(users):
        start, end = offsets[user], offsets[user + 1]
        _remember(had[0], had[1], items[start:end])
        found, all_scores, near = 0, np.float32(0), view[user]
        for event in range(max(start, end - events), end):
            source, fade = items[event], fading[end - 1 - event]
            heavy = mass[near, source]
            for n in range(width):
                item = lists[near, source, n]
                if item == 0:
                    continue
                slot = slot_of(slots, keys, item)
                place = slots[slot]
                if place < 0:
                    if had[0][slot_of(had[0], had[1], item)] >= 0:
                        continue
                    place = slots[slot] = found
                    keys[place], score[place] = item, np.float32(0)
                    sums[place] = np.float32(0)
                    found += 1
                share = shares[near, source, n]
                score[place] += share * fade
                all_scores += share * fade
                sums[place, 0] += share
                light = max(mass[near, item], np.float32(tiny))
                sums[place, 1] += share * np.sqrt(heavy / light)
                sums[place, 2] += np.float32(1)
                sums[place, 3] = max(sums[place, 3], share)
        order = best_first(score[:found], keys[:found], slots)
        kept = min(found, limit)
        for rank in range(kept):
            place, row = order[rank], cuts[user] + rank
            out[row] = keys[place]
            features[row, 0] = score[place] / all_scores
            features[row, 1] = sums[place, 0]
            features[row, 2] = score[place]
            features[row, 3:] = sums[place, 1:]
        cuts[user + 1] = cuts[user] + kept
        slots[:] = -1
    total = cuts[users]
    return cuts, out[:total], features[:total]


@compiled
def _remember(slots: NDArray[np.int32], keys: NDArray[np.int32], items: Ints) -> None:
    """The table holds these items, and no others."""
    slots[:] = -1
    known = 0
    for item in items:
        slot = slot_of(slots, keys, item)
        if slots[slot] < 0:
            slots[slot], keys[known] = known, item
            known += 1
