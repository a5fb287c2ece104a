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
def planned_at(
    items: Ints, at: Floats, offsets: Offsets, window: NDArray[np.int32], weight: Floats
) -> Floats:
    """Of each event, the `weight` [R] of its item in its window: float32 [E]; 0 where there is
    none. Rows offsets[n] : offsets[n + 1] are those of item n, by window."""
    out = np.zeros(len(items), np.float32)
    for event in range(len(items)):
        item, time = items[event], at[event]
        if item <= 0 or item + 1 >= len(offsets) or not np.isfinite(time):
            continue
        wanted = np.floor(time)
        low, high = offsets[item], offsets[item + 1]
        while low < high:
            middle = (low + high) // 2
            if window[middle] < wanted:
                low = middle + 1
            else:
                high = middle
        if low < offsets[item + 1] and window[low] == wanted:
            out[event] = weight[low]
    return out


@compiled
def counted(
    offsets: Offsets,
    items: Ints,
    at: Floats,
    weight: Floats,
    recent: Floats,
    planned: Floats,
    limit: int,
) -> tuple[Offsets, Offsets, Offsets, NDArray[np.int64], Floats, Floats]:
    """One pass over the events of each history, and a sort of its distinct items.

    Offsets int64 [B + 1]; visits and distinct items int64 [B]; int64 [6, R]: places of the first
    and of the last event, number of events and of visits, numbers of the first and last visit;
    float32 [3, R]: sums of `weight`, of `recent`, and of `weight` times `planned`; float32 [B]: the
    mean of `planned` by weight. Events at one time are one visit.
    """
    users = len(offsets) - 1
    longest, room = 0, 0
    for user in range(users):
        length = offsets[user + 1] - offsets[user]
        longest, room = max(longest, length), room + min(length, limit)
    slots = slots_for(longest)
    keys = np.empty(longest, np.int32)
    own, sums = np.empty((6, longest), np.int64), np.empty((3, longest), np.float32)
    whole, summed = np.empty((6, room), np.int64), np.empty((3, room), np.float32)
    cuts, visits = np.zeros(users + 1, np.int64), np.zeros(users, np.int64)
    distinct, mean = np.zeros(users, np.int64), np.zeros(users, np.float32)
    for user in range(users):
        found, visit, mass = 0, -1, np.float32(1e-9)
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
                sums[0, place] = sums[1, place] = sums[2, place] = np.float32(0)
            own[1, place] = event
            own[2, place] += 1
            own[3, place] += visit != own[5, place]
            own[5, place] = visit
            sums[0, place] += weight[event]
            sums[1, place] += recent[event]
            sums[2, place] += weight[event] * planned[event]
            mean[user] += weight[event] * planned[event]
            mass += weight[event]
        mean[user] /= mass
        visits[user], distinct[user] = visit + 1, found
        order = best_first(sums[0, :found], keys[:found], slots)
        start = cuts[user]
        cuts[user + 1] = start + min(found, limit)
        for rank in range(min(found, limit)):
            for number in range(6):
                whole[number, start + rank] = own[number, order[rank]]
            summed[0, start + rank] = sums[0, order[rank]]
            summed[1, start + rank] = sums[1, order[rank]]
            summed[2, start + rank] = sums[2, order[rank]]
        slots[:] = -1
    total = cuts[users]
    return cuts, visits, distinct, whole[:, :total], summed[:, :total], mean


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
def joined(
    made: Floats,
    match: tuple[Floats, Floats],
    known: tuple[tuple[Floats, Ints], tuple[Floats, Offsets], tuple[Floats, Ints]],
) -> None:
    """What is `made` of the rows of a layer, with all else that they are made of, and relu.

    made   float32 [R, H]: own features times their kernel; holds the answer
    match  float32 [R] with its kernel [H]
    known  products made before, and which of them a row has: of items, of users, of event types
    """
    strength, by = match
    (item, items), (user, users), (kind, kinds) = known
    for r in range(len(made)):
        into, mine, who, what = made[r], item[items[r]], user[users[r]], kind[kinds[r]]
        for n in range(len(into)):
            into[n] = max(into[n] + mine[n] + who[n] + what[n] + strength[r] * by[n], np.float32(0))


@compiled
def regular(
    offsets: Offsets,
    cuts: Offsets,
    visits: NDArray[np.int64],
    distinct: NDArray[np.int64],
    whole: NDArray[np.int64],
    sums: Floats,
    age: Floats,
    little: float,
) -> tuple[Floats, Floats, Floats]:
    """What `counted` found -> features before their logarithms: of past items float32 [R, 10] and,
    without logarithm, [R, 4]; of users float32 [B, 6], the third without. `little` is added to
    sums of recent weights, and of weights so old that they are nothing a little is left."""
    rows = whole.shape[1]
    amounts, plain = np.empty((rows, 10), np.float32), np.empty((rows, 4), np.float32)
    one, tenth = np.float32(1), np.float32(0.1)
    told = np.zeros((len(visits), 6), np.float32)
    for user in range(len(visits)):
        start, end = offsets[user], offsets[user + 1]
        length = end - start
        told[user, 0], told[user, 1], told[user, 5] = length, distinct[user], visits[user]
        told[user, 2] = one - distinct[user] / max(length, 1)
        if length:
            told[user, 3], told[user, 4] = age[end - 1], age[start]
        for row in range(cuts[user], cuts[user + 1]):
            first, last, times, visited = whole[:4, row]
            out, oldest, latest = amounts[row], age[first], age[last]
            # Less than nothing where times fall, or the first of them is not known.
            usual = max(oldest - latest, np.float32(0)) / np.float32(max(visited - 1, 1))
            out[0] = max(sums[0, row], np.float32(1e-9))
            out[1] = sums[1, row] + np.float32(little)
            out[2], out[3] = times, times / length
            out[4], out[5], out[6] = one + latest, one + oldest, end - last
            out[7] = (latest + tenth) / (usual + tenth) if visited > 1 else one
            out[8] = visits[user] - whole[5, row]
            out[9] = one + usual if visited > 1 else one
            plain[row, 0], plain[row, 1] = end - 1 == last, visited > 1
            plain[row, 2] = visited / max(visits[user] - whole[4, row], 1)
            plain[row, 3] = sums[2, row] / out[0]
    return amounts, plain, told


@compiled
def dated(offsets: Offsets, age: Floats, values: Floats, width: int) -> Floats:
    """Of the last `width` events of each row, right-aligned: time to the decision, time to the next
    event, value (none where `values` is empty), nothing below 0: float32 [B, width, 3]."""
    out, zero = np.zeros((len(offsets) - 1, width, 3), np.float32), np.float32(0)
    for row in range(len(out)):
        end = offsets[row + 1]
        for event in range(max(offsets[row], end - width), end):
            facts = out[row, width - end + event]
            facts[0] = max(age[event], zero)
            if event + 1 < end:
                facts[1] = max(age[event] - age[event + 1], zero)
            if len(values):
                value = values[event]
                facts[2] = value if value > zero else zero
    return out


@compiled
def embedded(
    offsets: Offsets,
    items: Ints,
    types: Ints,
    width: int,
    vectors: tuple[NDArray[np.int8], Floats, float],
    kinds: Floats,
    places: Floats,
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Of the last `width` events of each row, right-aligned: float32 [B, width, D], what the
    encoder reads; float32 [B, D], the mean of their items' vectors; bool [B, width], which are of
    known items.

    vectors  values [N, D], scale [N], and by how much they count beside the others
    kinds    [T, D] of event types; places [P, D], the latest event has place 1
    """
    values, scale, by = vectors
    size, weight = values.shape[1], np.float32(by)
    shape = len(offsets) - 1, width
    out, seen = np.empty((*shape, size), np.float32), np.zeros(shape, np.bool_)
    mean = np.zeros((shape[0], size), np.float32)
    for row in range(shape[0]):
        first, known, middle = offsets[row + 1] - width, 0, mean[row]
        for place in range(width):
            event = first + place
            there = event >= offsets[row]
            item = items[event] if there else np.int32(0)
            vector, by_item = values[item], scale[item]
            kind, where = kinds[types[event] if there else 0], places[width - place]
            into = out[row, place]
            for n in range(size):
                told = np.float32(vector[n]) * by_item
                into[n] = told * weight + kind[n] + where[n]
                if item > 0:
                    middle[n] += told
            seen[row, place] = item > 0
            known += 1 if item > 0 else 0
        if known:
            for n in range(size):
                middle[n] /= np.float32(known)
    return out, mean, seen


@compiled
def unpacked(values: NDArray[np.int8], scale: Floats, places: Ints) -> Floats:
    """values[places] times their scale: float32 [P, D]."""
    out = np.empty((len(places), values.shape[1]), np.float32)
    for place in range(len(places)):
        row, by = values[places[place]], scale[places[place]]
        for n in range(len(row)):
            out[place, n] = np.float32(row[n]) * by
    return out


@compiled
def alike(
    own: tuple[Offsets, Ints, Floats],
    amounts: tuple[Floats, Floats],
    near: tuple[Offsets, Ints, Floats],
    attributes: Ints,
    little: float,
) -> tuple[Floats, Floats]:
    """The features of `own` items of each user and of those `near`, ragged, with two more for each
    of A attributes: the log of what the user's own items with the same value weigh together, and
    `little`; and the inverse of the shortest time since one of them, but for the item itself, or 0.

    float32 [R, F + 2 A] of both. `amounts` [R] of own items: weight, and time since (above 0).
    Value 0 is unknown, and like nothing.
    """
    longest = 0
    for user in range(len(own[0]) - 1):
        longest = max(longest, own[0][user + 1] - own[0][user])
    slots, keys = slots_for(longest), np.empty(longest, np.int32)
    sums, latest = np.empty(longest, np.float32), np.empty((longest, 2), np.float32)
    kinds = slots, keys, sums, latest, np.empty(longest, np.int32)
    nothing = np.log(np.float32(little))
    wide = _widened(own[2], 2 * attributes.shape[1]), _widened(near[2], 2 * attributes.shape[1])
    for user in range(len(own[0]) - 1):
        for a in range(attributes.shape[1]):
            start, end = own[0][user], own[0][user + 1]
            known = _kinds_of(kinds, own[1], amounts, attributes[:, a], start, end)
            for place in range(known):
                sums[place] = np.log(sums[place] + np.float32(little))
            at = own[2].shape[1] + 2 * a
            _of_kind(kinds, own[1], attributes[:, a], (start, end, at), nothing, wide[0])
            start, end, at = near[0][user], near[0][user + 1], near[2].shape[1] + 2 * a
            _of_kind(kinds, near[1], attributes[:, a], (start, end, at), nothing, wide[1])
    return wide


Kinds = tuple[NDArray[np.int32], NDArray[np.int32], Floats, Floats, NDArray[np.int32]]
"""A table of values with what the items of each weigh, the two shortest inverse times since one of
them was taken, and which item that of the first is."""


@compiled
def _widened(features: Floats, more: int) -> Floats:
    """With room for so many more columns."""
    width = features.shape[1]
    out = np.empty((len(features), width + more), np.float32)
    for row in range(len(features)):
        for n in range(width):
            out[row, n] = features[row, n]
    return out


@compiled
def _kinds_of(
    kinds: Kinds, items: Ints, amounts: tuple[Floats, Floats], value_of: Ints, start: int, end: int
) -> int:
    """How many values the items start : end have, which the table then holds."""
    (slots, keys, sums, latest, whose), (weight, since) = kinds, amounts
    slots[:] = -1
    known = 0
    for row in range(start, end):
        item = items[row]
        value, inverse = value_of[item], np.float32(1) / since[row]
        if value == 0:
            continue
        slot = slot_of(slots, keys, value)
        place = slots[slot]
        if place < 0:
            place = slots[slot] = known
            keys[place], sums[place], whose[place] = value, np.float32(0), 0
            latest[place] = np.float32(0)
            known += 1
        sums[place] += weight[row]
        if inverse > latest[place, 0]:
            latest[place, 1] = latest[place, 0]
            latest[place, 0], whose[place] = inverse, item
        elif inverse > latest[place, 1]:
            latest[place, 1] = inverse
    return known


@compiled
def _of_kind(
    kinds: Kinds,
    items: Ints,
    value_of: Ints,
    where: tuple[int, int, int],
    nothing: float,
    out: Floats,
) -> None:
    """Of the items in rows where[0] : where[1], in the two columns from where[2] on."""
    (slots, keys, sums, latest, whose), (start, end, at) = kinds, where
    for row in range(start, end):
        item = items[row]
        place = slots[slot_of(slots, keys, value_of[item])]
        out[row, at], out[row, at + 1] = nothing, np.float32(0)
        if place >= 0:
            out[row, at] = sums[place]
            out[row, at + 1] = latest[place, 1 if whose[place] == item else 0]
