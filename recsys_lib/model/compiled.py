"""Loops over events that no array operation says well: compiled once, kept for later processes.

They stand in one file because what is kept is held against the file that it was compiled from, and
against none that this one calls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.histories import Floats, Ints, Offsets

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """Machine code of `loop`, which threads may run side by side. It is kept beside the module or
    in the user's cache; where neither can be written, each process compiles for itself."""
    return _made(loop, set())


def summing(loop: Loop) -> Loop:
    """The same of one that adds up products, in whatever order is fastest."""
    return _made(loop, {"reassoc", "contract"})


def _made(loop: Loop, liberties: set[str]) -> Loop:
    how = partial(numba.njit, nogil=True, fastmath=liberties or False)
    try:
        made = how(cache=True)(loop)
        # It is written at the first call, which must not fail for that.
        Path(made.stats.cache_path or "").mkdir(parents=True, exist_ok=True)
    except (RuntimeError, OSError):
        made = how()(loop)
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
        known = _added(slots, keys, known, item)


@summing
def matched(
    items: Ints,
    row: Offsets,
    values: NDArray[np.int8],
    scale: Floats,
    known: Floats,
    user: Floats,
    taste: Floats,
) -> tuple[Floats, Floats]:
    """Of each pair of an item and a row of `user` [B, D] and `taste` [B, K]: the product with the
    item's vector, values [N, D] times scale [N], and that plus the product with known [N, K]."""
    match, whole = np.empty(len(items), np.float32), np.empty(len(items), np.float32)
    for pair in range(len(items)):
        vector, who = values[items[pair]], user[row[pair]]
        total = np.float32(0)
        for place in range(len(who)):
            total += np.float32(vector[place]) * who[place]
        match[pair] = total = total * scale[items[pair]]
        facts, likes = known[items[pair]], taste[row[pair]]
        for place in range(len(likes)):
            total += facts[place] * likes[place]
        whole[pair] = total
    return match, whole


@compiled
def best_of(
    asked: Offsets,
    few: tuple[Ints, Floats],
    parts: tuple[Offsets, Offsets],
    rest: tuple[Offsets, Floats],
    hidden: tuple[Offsets, Ints],
    k: int,
) -> tuple[Ints, Floats, NDArray[np.bool_]]:
    """The k best items of some users: int32 [A, k], float32 [A, k], the best first and of equals
    the smaller item, 0 and -inf at the end; and whether `rest` had too few, bool [A].

    few      items and scores of all users, ragged: those of parts[0], after all of them those of
             parts[1]
    rest     items and scores [A, W] of the users `asked`; what is among `few` counts as it is there
    hidden   offsets and items that no answer may have, but where `few` has them
    """
    longest = 0
    for user in asked:
        size = hidden[0][user + 1] - hidden[0][user]
        for part in parts:
            size += part[user + 1] - part[user]
        longest = max(longest, size)
    slots, keys = slots_for(longest), np.empty(longest, np.int32)
    items, scores = (
        np.zeros((len(asked), k), np.int32),
        np.full((len(asked), k), -np.inf, np.float32),
    )
    short = np.zeros(len(asked), np.bool_)
    for place, user in enumerate(asked):
        mine, best, start, known = items[place], scores[place], 0, 0
        slots[:] = -1
        for item in hidden[1][hidden[0][user] : hidden[0][user + 1]]:
            known = _added(slots, keys, known, item)
        for part in parts:
            for n in range(start + part[user], start + part[user + 1]):
                known = _added(slots, keys, known, few[0][n])
                _inserted(mine, best, few[0][n], few[1][n])
            start += part[-1]
        others = 0
        for n in range(rest[0].shape[1]):
            item = np.int32(rest[0][place, n])
            if slots[slot_of(slots, keys, item)] < 0 and rest[1][place, n] > -np.inf:
                others += 1
                _inserted(mine, best, item, rest[1][place, n])
        short[place] = others < k
    return items, scores, short


@compiled
def _added(slots: NDArray[np.int32], keys: NDArray[np.int32], known: int, key: np.int32) -> int:
    """How many keys the table has with this one."""
    slot = slot_of(slots, keys, key)
    if slots[slot] >= 0:
        return known
    slots[slot], keys[known] = known, key
    return known + 1


@compiled
def _inserted(items: Ints, scores: Floats, item: np.int32, score: np.float32) -> None:
    """Into a list that is in order, where it belongs; the last one falls off."""
    place = len(items)
    while place > 0 and (
        score > scores[place - 1] or (score == scores[place - 1] and item < items[place - 1])
    ):
        place -= 1
    if place < len(items) and score > -np.inf:
        for n in range(len(items) - 1, place, -1):
            items[n], scores[n] = items[n - 1], scores[n - 1]
        items[place], scores[place] = item, score


@compiled
def side_by_side(
    own: Floats, table: Floats, items: Ints, match: Floats, user: Floats, row: Offsets
) -> Floats:
    """[own [R, ...], table[items], match [R], user[row]] in one row for each: float32 [R, ...]."""
    facts, told = own.shape[1], table.shape[1]
    at = facts + told
    out = np.empty((len(own), at + 1 + user.shape[1]), np.float32)
    for r in range(len(own)):
        mine, known, who = out[r], table[items[r]], user[row[r]]
        for n in range(facts):
            mine[n] = own[r, n]
        for n in range(told):
            mine[facts + n] = known[n]
        mine[at] = match[r]
        for n in range(len(who)):
            mine[at + 1 + n] = who[n]
    return out


@compiled
def unpacked(values: NDArray[np.int8], scale: Floats, places: Ints) -> Floats:
    """values[places] times their scale: float32 [P, D]."""
    out = np.empty((len(places), values.shape[1]), np.float32)
    for place in range(len(places)):
        row, by = values[places[place]], scale[places[place]]
        for n in range(len(row)):
            out[place, n] = np.float32(row[n]) * by
    return out
