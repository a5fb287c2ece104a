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
def strongest(score: NDArray[np.float32], keys: NDArray[np.int32], most: int) -> NDArray[np.int32]:
    """Places of the `most` largest scores, all positive, in the order in which they stand; of equal
    ones those of the smaller keys.

    Bits of positive floats rise as these do: their first eleven tell all but a few apart, and
    these few are sorted.
    """
    if len(score) <= most:
        return np.arange(len(score)).astype(np.int32)
    bits, counts = score.view(np.int32), np.zeros(2048, np.int32)
    for place in range(len(score)):
        counts[bits[place] >> 20] += 1
    edge, above = 2047, 0
    while above + counts[edge] < most:
        above += counts[edge]
        edge -= 1
    close, n = np.empty(counts[edge], np.int64), 0
    for place in range(len(score)):
        if bits[place] >> 20 == edge:
            close[n] = (np.int64(0x7FFFFFFF - bits[place]) << 32) | keys[place]
            n += 1
    close.sort()
    last = close[most - above - 1]
    chosen, n = np.empty(most, np.int32), 0
    for place in range(len(score)):
        part = bits[place] >> 20
        if part > edge or (
            part == edge and (np.int64(0x7FFFFFFF - bits[place]) << 32) | keys[place] <= last
        ):
            chosen[n] = place
            n += 1
    return chosen


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
    items: Ints,
    at: Floats,
    marks: NDArray[np.uint64],
    offsets: Offsets,
    window: NDArray[np.int32],
    weight: Floats,
) -> Floats:
    """Of each event, the `weight` [R] of its item in its window: float32 [E]; 0 where there is
    none. Rows offsets[n] : offsets[n + 1] are those of item n, by window. Bit w % 64 of marks[n] is
    set where it has a row for a window w: most events are done with one look at that, and while
    the windows of an item's rows do not pass a multiple of 64, the bits below tell its place."""
    out, one = np.zeros(len(items), np.float32), np.uint64(1)
    for event in range(len(items)):
        item, time = items[event], at[event]
        if item <= 0 or item >= len(marks) or not np.isfinite(time):
            continue
        wanted = np.int64(np.floor(time))
        mark, bit = marks[item], one << np.uint64(wanted & 63)
        if mark & bit == 0:
            continue
        low, high = offsets[item], offsets[item + 1]
        place = low + _ones(mark & (bit - one))
        if place < high and window[place] == wanted:
            out[event] = weight[place]
            continue
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
def _ones(bits: np.uint64) -> np.int64:
    """How many bits are set (Warren, Hacker's Delight, section 5-1)."""
    bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
    pairs = np.uint64(0x3333333333333333)
    bits = (bits & pairs) + ((bits >> np.uint64(2)) & pairs)
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled
def counted(
    offsets: Offsets,
    items: Ints,
    at: Floats,
    weight: Floats,
    recent: Floats,
    planned: Floats,
    limit: int,
) -> tuple[Offsets, NDArray[np.int64], NDArray[np.int64], Floats, Floats]:
    """One pass over the events of each history; of its distinct items the `limit` heaviest are
    kept, in the order in which they first came.

    Offsets int64 [B + 1]; int64 [3, B]: visits, distinct items, events of these; int64 [6, R]:
    places of the first and of the last event, number of events and of visits, numbers of the first
    and last visit; float32 [3, R]: sums of `weight`, of `recent`, and of `weight` times `planned`;
    float32 [B]: the mean of `planned` by weight. Events at one time are one visit.
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
    cuts, numbers = np.zeros(users + 1, np.int64), np.zeros((3, users), np.int64)
    mean = np.zeros(users, np.float32)
    for user in range(users):
        found, visit, known, mass = 0, -1, 0, np.float32(1e-9)
        before = np.float32(0)
        for event in range(offsets[user], offsets[user + 1]):
            time = at[event]
            if visit < 0 or (time != before and not (np.isnan(time) and np.isnan(before))):
                visit += 1
            before = time
            if items[event] <= 0:
                continue
            known += 1
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
        numbers[0, user], numbers[1, user], numbers[2, user] = visit + 1, found, known
        order = strongest(sums[0, :found], keys[:found], limit)
        start = cuts[user]
        cuts[user + 1] = start + len(order)
        for rank in range(len(order)):
            for number in range(6):
                whole[number, start + rank] = own[number, order[rank]]
            summed[0, start + rank] = sums[0, order[rank]]
            summed[1, start + rank] = sums[1, order[rank]]
            summed[2, start + rank] = sums[2, order[rank]]
        slots[:] = -1
    total = cuts[users]
    return cuts, numbers, whole[:, :total], summed[:, :total], mean


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
    """Offsets int64 [B + 1], items int32 [R] and the features before their logarithm [6, R].
    `fading` [events]: weight of an event by how many came after it. `view` [B] of the neighbours.
    """
    users, events, width = len(offsets) - 1, len(fading), lists.shape[2]
    longest = 0
    for user in range(users):
        longest = max(longest, offsets[user + 1] - offsets[user])
    most = min(longest, events) * width
    slots, keys = slots_for(longest + most), np.empty(longest + most, np.int32)
    sums, score = np.empty((most, 4), np.float32), np.empty(most, np.float32)
    room = users * min(limit, most)
    out, features = np.empty(room, np.int32), np.empty((6, room), np.float32)
    cuts = np.zeros(users + 1, np.int64)
    for user in range(users):
        start, end = offsets[user], offsets[user + 1]
        slots[:] = -1
        own, all_scores, near = 0, np.float32(0), view[user]
        for item in items[start:end]:
            own = _added(slots, keys, own, item)
        found, first = 0, max(start, end - events)
        sums[:1, 0] = _asked(items[first:end], lists[near], shares[near], mass[near])
        for event in range(first, end):
            source, fade = items[event], fading[end - 1 - event]
            heavy = np.sqrt(mass[near, source])
            for n in range(width):
                item = lists[near, source, n]
                if item == 0:
                    continue
                slot = slot_of(slots, keys, item)
                place = slots[slot] - own
                if slots[slot] < 0:
                    slots[slot], place = own + found, found
                    keys[own + place], score[place] = item, np.float32(0)
                    sums[place] = np.float32(0)
                    found += 1
                elif place < 0:
                    continue
                share = shares[near, source, n]
                score[place] += share * fade
                all_scores += share * fade
                sums[place, 0] += share
                sums[place, 1] += share * heavy
                sums[place, 2] += np.float32(1)
                sums[place, 3] = max(sums[place, 3], share)
        order = strongest(score[:found], keys[own : own + found], limit)
        for rank in range(len(order)):
            place, row = order[rank], cuts[user] + rank
            out[row] = item = keys[own + place]
            features[0, row] = score[place] / all_scores
            features[1, row], features[2, row] = sums[place, 0], score[place]
            light = max(mass[near, item], np.float32(tiny))
            features[3, row] = sums[place, 1] / np.sqrt(light)
            features[4, row], features[5, row] = sums[place, 2], sums[place, 3]
        cuts[user + 1] = cuts[user] + len(order)
    total = cuts[users]
    return cuts, out[:total], features[:, :total]


@compiled
def _asked(
    sources: Ints,
    lists: NDArray[np.int32],
    shares: NDArray[np.float32],
    mass: NDArray[np.float32],
) -> np.float32:
    """Touches all that `gathered` reads of these items: memory that is asked for all at once brings
    it together. The sum means nothing; without one nothing would be read."""
    total = np.float32(0)
    for source in sources:
        total += np.float32(lists[source, 0] + lists[source, -1]) + mass[source]
        total += shares[source, 0] + shares[source, -1]
    return total


Part = tuple[Offsets, Ints, Floats, Floats]
"""Items of users, ragged: offsets int64 [B + 1], items int32 [R], logits float32 [R], which a
softmax makes shares of the part, and what the items score in the shop, float32 [R]."""
Cells = tuple[Offsets, Ints, NDArray[np.int8], Floats, Floats]
"""Items cell by cell: offsets int64 [C + 1] of cells, items int32 [N], their vectors values [N, D]
times scale [N], and known [N, K]."""


@compiled
def best_of(
    parts: tuple[Part, Part],
    gate: Floats,
    hidden: tuple[Offsets, Ints],
    forgotten: int,
    cells: Cells,
    asked: tuple[Floats, Floats, Floats],
    k: int,
) -> tuple[Ints, Floats]:
    """The k best items of B users: int32 [B, k], float32 [B, k], the best first and of equals the
    smaller item, 0 and -inf at the end.

    parts      past items, and near ones
    gate       float32 [B, 3]: logs of what each part counts, and what is added to a score of the
               shop
    hidden     offsets and items that no answer may have, but where they are among the parts
    forgotten  parts that no answer may have, from the first on
    cells      all items
    asked      user [B, D] and taste [B, K], the products with which are an item's score; bounds
               [B, C]: what no item of a cell exceeds
    """
    users, (user, taste, bounds) = len(gate), asked
    items, scores = np.zeros((users, k), np.int32), np.full((users, k), -np.inf, np.float32)
    found = np.empty(np.diff(cells[0]).max(), np.float32)
    for row in range(users):
        best = items[row], scores[row]
        for number in range(forgotten, 2):
            _add_part(best, parts[number], row, gate[row, number], gate[row, 2])
        for cell in range(len(cells[0]) - 1):
            # What cannot be among the best is not looked for.
            if bounds[row, cell] + gate[row, 2] >= scores[row, -1]:
                part = cells[0][cell], cells[0][cell + 1]
                _scored(cells, part, user[row], taste[row], found)
                for place in range(part[0], part[1]):
                    score, item = found[place - part[0]] + gate[row, 2], cells[1][place]
                    if score >= scores[row, -1] and not _among(item, row, parts, hidden):
                        _inserted(items[row], scores[row], item, score)
    return items, scores


LOG_2 = np.float32(np.log(2.0))


@compiled
def _add_part(
    best: tuple[Ints, Floats], part: Part, user: int, share: np.float32, others: np.float32
) -> None:
    """A part's items of this user, with the log of what part and shop give them together."""
    (offsets, items, logits, explored), (mine, scores) = part, best
    start, end = offsets[user], offsets[user + 1]
    if start == end:
        return
    share -= _log_sum(logits[start:end])
    for row in range(start, end):
        inside, outside = logits[row] + share, explored[row] + others
        more = max(inside, outside)
        if more + LOG_2 >= scores[-1]:
            more += np.log1p(np.exp(-abs(inside - outside)))
            _inserted(mine, scores, items[row], more)


@compiled
def _log_sum(logits: Floats) -> np.float32:
    """Log of the sum of their exponents."""
    most, total = logits[0], np.float32(0)
    for logit in logits:
        most = max(most, logit)
    for logit in logits:
        total += np.exp(logit - most)
    return np.float32(most + np.log(total))


@summing
def _scored(cells: Cells, part: tuple[int, int], user: Floats, taste: Floats, out: Floats) -> None:
    """What the items at places part[0] : part[1] score."""
    _, _, values, scale, known = cells
    for place in range(part[0], part[1]):
        total = np.float32(0)
        for n in range(len(user)):
            total += np.float32(values[place, n]) * user[n]
        total *= scale[place]
        for n in range(len(taste)):
            total += known[place, n] * taste[n]
        out[place - part[0]] = total


@compiled
def _among(item: int, user: int, parts: tuple[Part, Part], hidden: tuple[Offsets, Ints]) -> bool:
    """Whether the item is in one of the parts, or hidden. Few are looked for: no table pays."""
    for offsets, items, _, _ in parts:
        if _holds(items[offsets[user] : offsets[user + 1]], item):
            return True
    return _holds(hidden[1][hidden[0][user] : hidden[0][user + 1]], item)


@compiled
def _holds(items: Ints, wanted: int) -> bool:
    for item in items:  # noqa: SIM110
        if item == wanted:
            return True
    return False


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


AHEAD = 32
"""Rows whose items are looked up before the first of them is needed: memory that is asked for all
at once brings them together."""


@summing
def joined(
    made: Floats,
    rows: tuple[Offsets, Ints, Ints],
    match: tuple[NDArray[np.int8], Floats, Floats, Floats],
    shop: tuple[Floats, Floats],
    told: tuple[Floats, Floats, Floats],
) -> Floats:
    """What is `made` of the rows of a layer [R, H], with all else that they are made of, and relu,
    in place; and what the items of the rows score in the shop, float32 [R].

    rows   offsets of users int64 [B + 1]; items and event types int32 [R]
    match  of vectors: values [N, D], scale [N]; user [B, D], whose product with an item's vector
           the layer is told; the kernel of that [H]
    shop   known [N, K] and taste [B, K], their product with which makes it a score
    told   products made before: of items [N, H], of users [B, H], of event types [T, H]
    """
    (offsets, items, types), (values, scale, user, by), (known, taste) = rows, match, shop
    item, users, kinds = told
    out = np.empty(len(made), np.float32)
    for place in range(len(offsets) - 1):
        who, likes, whose = user[place], taste[place], users[place]
        for r in range(offsets[place], offsets[place + 1]):
            if r % AHEAD == 0:
                _fetch(items[r : r + AHEAD], values, scale, known, item, out[r : r + AHEAD])
            index = items[r]
            vector, facts = values[index], known[index]
            fits = np.float32(0)
            for n in range(len(who)):
                fits += np.float32(vector[n]) * who[n]
            fits *= scale[index]
            score = fits
            for n in range(len(likes)):
                score += facts[n] * likes[n]
            out[r] = score
            into, mine, what = made[r], item[index], kinds[types[r]]
            for n in range(len(into)):
                into[n] = max(into[n] + mine[n] + whose[n] + what[n] + fits * by[n], np.float32(0))
    return out


@compiled
def _fetch(
    items: Ints,
    values: NDArray[np.int8],
    scale: Floats,
    known: Floats,
    item: Floats,
    out: Floats,
) -> None:
    """Touches all that `joined` reads of these items. What it writes is written over later: without
    it nothing would be read."""
    middle = item.shape[1] // 2
    for n in range(len(items)):
        index = items[n]
        out[n] = values[index, 0] + values[index, -1] + scale[index]
        out[n] += known[index, 0] + known[index, -1]
        out[n] += item[index, 0] + item[index, middle] + item[index, -1]


@summing
def judged(hidden: Floats, bias: Floats, out: Floats, first: Floats) -> Floats:
    """The last layer, over relu of `hidden` [R, H] and its bias, added to `first` [R]: [R]."""
    logits = np.empty(len(hidden), np.float32)
    for row in range(len(hidden)):
        total = first[row]
        for n in range(len(bias)):
            total += max(hidden[row, n] + bias[n], np.float32(0)) * out[n]
        logits[row] = total
    return logits


@compiled
def regular(
    offsets: Offsets,
    cuts: Offsets,
    numbers: NDArray[np.int64],
    whole: NDArray[np.int64],
    sums: Floats,
    age: Floats,
    little: float,
) -> tuple[Floats, Floats]:
    """What `counted` found -> features before their logarithms, where they have one: of past items
    float32 [14, R], of users float32 [B, 6]. `little` is added to sums of recent weights, and of
    weights so old that they are nothing a little is left."""
    out = np.empty((14, whole.shape[1]), np.float32)
    one, tenth = np.float32(1), np.float32(0.1)
    users = len(offsets) - 1
    told = np.zeros((users, 6), np.float32)
    for user in range(users):
        start, end = offsets[user], offsets[user + 1]
        length = end - start
        visits, distinct, known = numbers[:, user]
        told[user, 0], told[user, 1], told[user, 5] = length, distinct, visits
        if known:
            told[user, 2] = one - distinct / known
        if length:
            told[user, 3], told[user, 4] = age[end - 1], age[start]
        for row in range(cuts[user], cuts[user + 1]):
            first, last, times, visited = whole[:4, row]
            oldest, latest = age[first], age[last]
            # Less than nothing where times fall, or the first of them is not known.
            usual = max(oldest - latest, np.float32(0)) / np.float32(max(visited - 1, 1))
            out[0, row] = max(sums[0, row], np.float32(1e-9))
            out[1, row] = sums[1, row] + np.float32(little)
            out[2, row], out[3, row] = times, times / length
            out[4, row], out[5, row], out[6, row] = one + latest, one + oldest, end - last
            out[7, row], out[8, row] = end - 1 == last, visited > 1
            out[9, row] = (latest + tenth) / (usual + tenth) if visited > 1 else one
            out[10, row] = visited / max(visits - whole[4, row], 1)
            out[11, row] = visits - whole[5, row]
            out[12, row] = one + usual if visited > 1 else one
            out[13, row] = sums[2, row] / out[0, row]
    return out, told


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
def tabled(offsets: Offsets, columns: Floats, width: int) -> Floats:
    """`columns` [F, R] of ragged rows, left-aligned: [B, width, F], 0 padded."""
    out = np.zeros((len(offsets) - 1, width, len(columns)), np.float32)
    for row in range(len(out)):
        start = offsets[row]
        for place in range(min(width, offsets[row + 1] - start)):
            for column in range(len(columns)):
                out[row, place, column] = columns[column, start + place]
    return out


@compiled
def embedded(
    offsets: Offsets,
    items: Ints,
    types: Ints,
    widths: tuple[int, int],
    vectors: tuple[NDArray[np.int8], Floats, float],
    kinds: Floats,
    places: Floats,
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Of the last `read` events of each row, right-aligned: float32 [B, read, D], what the encoder
    reads; float32 [B, D], the mean of the vectors of the last `recent` events' items;
    bool [B, read], which of those it reads are of known items.

    widths   (read, recent), the second is no less
    vectors  values [N, D], scale [N], and by how much they count beside the others
    kinds    [T, D] of event types; places [P, D], the latest event has place 1
    """
    values, scale, by = vectors
    width, recent = widths
    size, weight = values.shape[1], np.float32(by)
    shape = len(offsets) - 1, width
    out, seen = np.empty((*shape, size), np.float32), np.zeros(shape, np.bool_)
    mean = np.zeros((shape[0], size), np.float32)
    for row in range(shape[0]):
        first, known, middle = offsets[row + 1] - width, 0, mean[row]
        for event in range(max(offsets[row], first + width - recent), first):
            item = items[event]
            if item > 0:
                known += 1
                vector, by_item = values[item], scale[item]
                for n in range(size):
                    middle[n] += np.float32(vector[n]) * by_item
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
    own: tuple[Offsets, Ints],
    amounts: tuple[Floats, Floats],
    near: tuple[Offsets, Ints],
    attributes: Ints,
    little: float,
) -> tuple[Floats, Floats]:
    """Of `own` items of each user and of those `near`, ragged, two features for each of A
    attributes: the log of what the user's own items with the same value weigh together, and
    `little`; and the inverse of the shortest time since one of them, but for the item itself, or 0.

    float32 [2 A, R] of both. `amounts` [R] of own items: weight, and time since (above 0). Value 0
    is unknown, and like nothing.
    """
    columns, longest = attributes.shape[1], 0
    for user in range(len(own[0]) - 1):
        longest = max(longest, own[0][user + 1] - own[0][user])
    values = _turned(attributes, own[1]), _turned(attributes, near[1])
    most = 0
    for some in values:
        most = max(most, some.max() if some.size else 0)
    kinds = (
        np.zeros(most + 1, np.int32),
        np.empty(longest + 1, np.int32),
        np.empty((longest + 1, 3), np.float32),
        np.empty(longest + 1, np.int32),
    )
    mine = np.empty((2 * columns, len(own[1])), np.float32)
    beside = np.empty((2 * columns, len(near[1])), np.float32)
    for user in range(len(own[0]) - 1):
        start, end = own[0][user], own[0][user + 1]
        first, last = near[0][user], near[0][user + 1]
        items, weight, since = own[1][start:end], amounts[0][start:end], amounts[1][start:end]
        for a in range(columns):
            known = _kinds_of(kinds, items, weight, since, values[0][a, start:end], little)
            out = mine[2 * a, start:end], mine[2 * a + 1, start:end]
            _of_kind(kinds, items, values[0][a, start:end], out)
            out = beside[2 * a, first:last], beside[2 * a + 1, first:last]
            _of_kind(kinds, near[1][first:last], values[1][a, first:last], out)
            for place in range(1, known):
                kinds[0][kinds[1][place]] = 0
    return mine, beside


@compiled
def _turned(attributes: Ints, items: Ints) -> Ints:
    """Attributes of these items: [A, R]."""
    out = np.empty((attributes.shape[1], len(items)), np.int32)
    for row in range(len(items)):
        for a in range(len(out)):
            out[a, row] = attributes[items[row], a]
    return out


Kinds = tuple[NDArray[np.int32], NDArray[np.int32], Floats, NDArray[np.int32]]
"""The place of each value and the values in their places, of which the first is that of nothing;
float32 [K, 3], what the items of each weigh, and the two shortest inverse times since one of them
was taken; and which item that of the first is."""


@compiled
def _kinds_of(
    kinds: Kinds, items: Ints, weight: Floats, since: Floats, values: Ints, little: float
) -> int:
    """How many places there are of the values that the items have. There are few branches, as
    none could be foreseen."""
    place_of, keys, sums, whose = kinds
    known = 1
    for row in range(len(items)):
        item = items[row]
        value, inverse = values[row], np.float32(1) / since[row]
        place = place_of[value]
        if place == 0 and value > 0:
            place_of[value] = place = known
            keys[place], whose[place] = value, 0
            sums[place, 0] = sums[place, 1] = sums[place, 2] = np.float32(0)
            known += 1
        best = sums[place, 1]
        sums[place, 0] += weight[row]
        sums[place, 1] = max(best, inverse)
        sums[place, 2] = max(sums[place, 2], min(best, inverse))
        whose[place] = item if inverse > best else whose[place]
    sums[0, 0] = sums[0, 1] = sums[0, 2] = np.float32(0)
    for place in range(known):
        sums[place, 0] = np.log(sums[place, 0] + np.float32(little))
    return known


@compiled
def _of_kind(kinds: Kinds, items: Ints, values: Ints, out: tuple[Floats, Floats]) -> None:
    """Both features of these items."""
    (place_of, _, sums, whose), (weight, nearness) = kinds, out
    for row in range(len(items)):
        place = place_of[values[row]]
        weight[row] = sums[place, 0]
        nearness[row] = sums[place, 2 if whose[place] == items[row] else 1]
