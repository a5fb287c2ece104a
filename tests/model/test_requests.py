from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.model.histories import Histories, Targets
from recsys_lib.model.requests import (
    Task,
    in_parts,
    requests,
    select,
    select_targets,
    whole_histories,
)
from tests.model.tiny import Event, histories_of, sequences_of


def told(histories: Histories, targets: Targets) -> list[tuple[list[Event], float, list[int]]]:
    """(past events, decision time, targets) of each request."""
    parts = []
    for i in range(len(histories)):
        past = slice(histories.offsets[i], histories.offsets[i + 1])
        future = slice(targets.offsets[i], targets.offsets[i + 1])
        events = zip(histories.items[past].tolist(), histories.at[past].tolist(), strict=True)
        parts.append((list(events), float(histories.now[i]), targets.items[future].tolist()))
    return parts


def test_rows_come_in_parts_that_bound_what_their_requests_hold() -> None:
    lengths = [1, 30, 2, 40, 40, 3, 0, 5]
    rows = sequences_of(*([(1, float(n)) for n in range(length)] for length in lengths))
    (batch,) = rows.to_batches()
    parts = list(in_parts(batch, "next_item", 900))
    assert [len(part) for part in parts] == [3, 1, 4]
    assert pa.Table.from_batches(parts).equals(pa.Table.from_batches([batch]))
    held = [len(requests(part, "next_item")[0].items) for part in parts]
    assert max(held) < 900
    assert sum(held) == len(requests(batch, "next_item")[0].items)


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.floats(0, 9, width=16), max_size=12).map(sorted), max_size=8),
    task=st.sampled_from(get_args(Task)),
    most=st.integers(1, 60),
)
def test_what_the_requests_of_a_part_hold_is_bounded_in_both_tasks(
    rows: list[list[float]], task: Task, most: int
) -> None:
    whole = sequences_of(*([(1, at) for at in row] for row in rows))
    (batch,) = whole.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], whole.schema)]
    parts = list(in_parts(batch, task, most))
    assert pa.Table.from_batches(parts, whole.schema).equals(whole)
    for part in parts:
        assert len(requests(part.slice(1), task)[0].items) < most


def test_windows_are_asked_in_larger_parts_than_events() -> None:
    daily = [(1, day + n / 10) for day in range(9) for n in range(9)]
    (batch,) = sequences_of(*[daily] * 8).to_batches()
    assert len(list(in_parts(batch, "next_item", 8000))) == 4
    assert len(list(in_parts(batch, "next_window", 8000))) == 1


def test_every_window_with_something_before_it_is_one_request() -> None:
    rows = sequences_of([(1, 3.25), (2, 3.5), (1, 4.0), (3, 6.75)])
    histories, targets, row = requests(rows, "next_window")
    assert told(histories, targets) == [
        ([(1, 3.25), (2, 3.5)], 4.0, [1]),
        ([(1, 3.25), (2, 3.5), (1, 4.0)], 6.0, [3]),
    ]
    assert row.tolist() == [0, 0]


def test_events_known_before_the_increment_are_never_asked_again() -> None:
    rows = sequences_of([(1, 3.0), (2, 4.0), (3, 5.0), (4, 5.5)], known=2)
    histories, targets, _ = requests(rows, "next_window")
    assert told(histories, targets) == [([(1, 3.0), (2, 4.0)], 5.0, [3, 4])]


def test_new_events_of_a_window_that_was_partly_known_are_a_request_of_their_own() -> None:
    rows = sequences_of([(1, 5.0), (2, 5.25), (3, 5.5)], known=1)
    histories, targets, _ = requests(rows, "next_window")
    assert told(histories, targets) == [([(1, 5.0)], 5.0, [2, 3])]


def test_a_first_window_without_any_past_is_not_asked() -> None:
    assert len(requests(sequences_of([(1, 5.0), (2, 5.5)]), "next_window")[0]) == 0


def test_a_window_without_an_event_of_target_type_is_not_asked_but_stays_history() -> None:
    rows = sequences_of([(1, 3.0), (2, 4.0), (3, 5.0)], types=[[1, 2, 1]])
    histories, targets, _ = requests(rows, "next_window", frozenset({1}))
    assert told(histories, targets) == [([(1, 3.0), (2, 4.0)], 5.0, [3])]


def test_only_what_is_learned_from_leaves_out_the_fold_of_its_user() -> None:
    rows = sequences_of([(1, 3.0), (2, 4.0), (3, 5.0)], [(1, 3.0), (2, 4.0)])
    rows = rows.append_column("fold", pa.array([1, 0], pa.int32()))
    for task in ("next_window", "next_item"):
        assert requests(rows, task)[0].fold is None  # type: ignore[arg-type]
        learned = requests(rows, task, learned=True)[0]  # type: ignore[arg-type]
        assert learned.fold is not None
        assert learned.fold.tolist() == [1, 1, 0]


def test_unknown_items_are_history_but_never_a_target() -> None:
    rows = sequences_of([(0, 3.0), (0, 4.0), (2, 4.5)])
    histories, targets, _ = requests(rows, "next_window")
    assert told(histories, targets) == [([(0, 3.0)], 4.0, [2])]


def test_each_next_item_is_asked_at_the_time_of_the_event_before_it() -> None:
    rows = sequences_of([(1, 3.0), (2, 3.5), (3, 3.75)], known=1)
    histories, targets, _ = requests(rows, "next_item")
    assert told(histories, targets) == [
        ([(1, 3.0)], 3.0, [2]),
        ([(1, 3.0), (2, 3.5)], 3.5, [3]),
    ]


def test_a_session_shorter_than_two_events_asks_for_nothing() -> None:
    histories, targets, row = requests(sequences_of([(1, 3.0)], []), "next_item")
    assert (len(histories), len(targets.items), len(row)) == (0, 0, 0)


def test_items_beyond_the_known_ones_are_dropped_from_sessions_before_anything_else() -> None:
    rows = sequences_of([(1, 3.0), (9, 3.25), (2, 3.5), (0, 3.75), (8, 4.0)], known=2)
    histories, targets, _ = requests(rows, "next_item", known_items=8)
    assert told(histories, targets) == [
        ([(1, 3.0)], 3.0, [2]),
        ([(1, 3.0), (2, 3.5)], 3.5, [8]),
    ]


def test_known_items_do_not_touch_the_window_task() -> None:
    rows = sequences_of([(9, 3.0), (9, 4.0)])
    histories, targets, _ = requests(rows, "next_window", known_items=1)
    assert told(histories, targets) == [([(9, 3.0)], 4.0, [9])]


def test_profiles_follow_their_row() -> None:
    rows = sequences_of(
        [(1, 3.0), (1, 4.0), (1, 5.0)], [(2, 3.0), (2, 4.0)], profile=[[7, 8], [9, 0]]
    )
    histories, _, row = requests(rows, "next_window")
    assert histories.profile.tolist() == [[7, 8], [7, 8], [9, 0]]
    assert row.tolist() == [0, 0, 1]


def test_a_slice_of_a_batch_is_read_as_that_slice() -> None:
    rows = sequences_of([(1, 3.0), (2, 4.0)], [(3, 3.0), (4, 4.0)], profile=[[1], [2]])
    part = rows.to_batches()[0].slice(1, 1)
    histories, targets, row = requests(part, "next_window")
    assert told(histories, targets) == [([(3, 3.0)], 4.0, [4])]
    assert histories.profile.tolist() == [[2]]
    assert row.tolist() == [0]


def test_no_rows_are_no_requests() -> None:
    for task in ("next_window", "next_item"):
        assert len(requests(sequences_of(), task)[0]) == 0


EVENTS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(8, 20), st.integers(1, 2)), max_size=9
).map(lambda events: sorted(events, key=lambda event: event[1]))


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(EVENTS, st.integers(0, 9)), max_size=4),
    task=st.sampled_from(["next_window", "next_item"]),
    wanted=st.sampled_from([None, frozenset({1}), frozenset({1, 2})]),
    known_items=st.sampled_from([None, 3]),
)
def test_requests_equal_a_walk_over_the_events(
    rows: list[tuple[list[tuple[int, int, int]], int]],
    task: Task,
    wanted: frozenset[int] | None,
    known_items: int | None,
) -> None:
    told_rows = [[(item, at / 4) for item, at, _ in events] for events, _ in rows]
    knowns = [min(known, len(events)) for events, known in rows]
    kinds = [[kind for _, _, kind in events] for events, _ in rows]
    table = sequences_of(*told_rows, known=knowns, types=kinds)
    histories, targets, row = requests(table, task, wanted, known_items)
    expected = []
    for number, events in enumerate(told_rows):
        walk = _windows if task == "next_window" else _items
        every = list(zip(events, kinds[number], strict=True))
        for past, now, future in walk(every, knowns[number], wanted, known_items):
            expected.append((number, past, now, future))
    assert [
        (int(r), *part) for r, part in zip(row, told(histories, targets), strict=True)
    ] == expected


Walk = list[tuple[list[Event], float, list[int]]]


def _windows(
    every: list[tuple[Event, int]], known: int, wanted: frozenset[int] | None, _: int | None
) -> Walk:
    out = []
    for window in sorted({math.floor(at) for (_, at), _ in every[known:]}):
        new = [i for i in range(known, len(every)) if math.floor(every[i][0][1]) == window]
        future = [
            item
            for (item, _), kind in (every[i] for i in new)
            if item > 0 and (wanted is None or kind in wanted)
        ]
        if new[0] > 0 and future:
            out.append(([event for event, _ in every[: new[0]]], float(window), future))
    return out


def _items(
    every: list[tuple[Event, int]],
    known: int,
    wanted: frozenset[int] | None,
    known_items: int | None,
) -> Walk:
    out = []
    past: list[Event] = []
    for number, ((item, at), kind) in enumerate(every):
        if known_items is not None and not 0 < item <= known_items:
            continue
        asked = number >= known and past and item > 0 and (wanted is None or kind in wanted)
        if asked:
            out.append((list(past), past[-1][1], [item]))
        past = [*past, (item, at)]
    return out


@pytest.mark.parametrize("task", ["next_window", "next_item"])
def test_no_history_holds_an_event_at_or_after_what_it_is_asked_for(task: Task) -> None:
    random = np.random.default_rng(5)
    rows = [
        [(int(item), float(at)) for item, at in zip(random.integers(1, 9, 30), times, strict=True)]
        for times in np.sort(random.uniform(0, 9, (20, 30)), axis=1)
    ]
    histories, targets, row = requests(sequences_of(*rows), task)
    assert len(histories) > 100
    for i, (past, now, _) in enumerate(told(histories, targets)):
        here = [event for event in rows[row[i]] if np.float32(event[1]) <= past[-1][1]]
        assert len(past) == len(here)
        assert all(at <= now for _, at in past)


@pytest.mark.parametrize("task", ["next_window", "next_item"])
def test_what_an_event_was_worth_goes_with_it(task: Task) -> None:
    rows = sequences_of([(1, 3.0), (2, 4.0), (3, 5.0)], [(4, 3.0), (5, 4.0)])
    worth = pa.array([[1.0, 2.0, 3.0], [4.0, 5.0]], pa.list_(pa.float32()))
    rows = rows.set_column(rows.column_names.index("values"), "values", worth)
    histories, targets, _ = requests(rows, task)
    assert histories.values is not None
    assert targets.values is not None
    assert histories.values.tolist() == histories.items.tolist()
    assert targets.values.tolist() == targets.items.tolist()
    some = np.array([2, 0])
    assert select(histories, some).values.tolist() == select(histories, some).items.tolist()
    assert select_targets(targets, some).values.tolist() == [5.0, 2.0]
    assert whole_histories(rows.drop_columns(["known"]), 7.0).values.tolist() == [1, 2, 3, 4, 5]


def test_whole_histories_hold_every_event_of_every_user() -> None:
    rows = sequences_of([(1, 3.0), (2, 4.0)], [], [(3, 5.0)], profile=[[1], [2], [3]])
    histories = whole_histories(rows.drop_columns(["known"]), now=7.0)
    assert histories.offsets.tolist() == [0, 2, 2, 3]
    assert histories.items.tolist() == [1, 2, 3]
    assert histories.now.tolist() == [7.0] * 3
    assert histories.profile.tolist() == [[1], [2], [3]]


def test_whole_histories_are_asked_at_their_last_event_when_no_moment_is_told() -> None:
    rows = sequences_of([(1, 3.0), (2, 4.5)], [], [(3, 5.0)], [])
    histories = whole_histories(rows.drop_columns(["known"]), now=None)
    np.testing.assert_array_equal(histories.now, np.array([4.5, np.nan, 5.0, np.nan], np.float32))


def test_selected_histories_come_in_the_order_asked_for() -> None:
    histories = select(histories_of([(1, 1.0)], [], [(2, 1.0), (3, 2.0)]), np.array([2, 0, 2]))
    assert histories.offsets.tolist() == [0, 2, 3, 5]
    assert histories.items.tolist() == [2, 3, 1, 2, 3]
    assert histories.at.tolist() == [1.0, 2.0, 1.0, 1.0, 2.0]


def test_selected_targets_come_in_the_order_asked_for() -> None:
    targets = Targets(np.array([0, 2, 2, 3]), np.array([4, 5, 6], dtype=np.int32))
    chosen = select_targets(targets, np.array([2, 1, 0]))
    assert chosen.offsets.tolist() == [0, 1, 1, 3]
    assert chosen.items.tolist() == [6, 4, 5]
