from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from recsys_lib.features.returns import COUNTS, counted, item_returns
from tests.model.tiny import Event, sequences_of

Found = dict[tuple[int, int], tuple[int, ...]]
"""(window, item): firsts, seconds, returns, gaps"""


def found_in(rows: list[Event], known: int = 0, kinds: list[int] | None = None) -> Found:
    types = None if kinds is None else [kinds]
    table = sequences_of(rows, known=known, types=types).to_batches()[0]
    told = counted(table, None if kinds is None else [1]).to_pylist()
    return {(r["window"], r["index"]): tuple(r[name] for name in COUNTS) for r in told}


def test_an_item_is_taken_first_then_again_after_so_many_windows() -> None:
    assert found_in([(1, 3.0), (2, 3.5), (1, 5.2), (1, 9.0)]) == {
        (3, 1): (1, 0, 0, 0),
        (3, 2): (1, 0, 0, 0),
        (5, 1): (0, 1, 1, 2),
        (9, 1): (0, 0, 1, 4),
    }


def test_twice_in_a_window_is_once() -> None:
    assert found_in([(1, 3.0), (1, 3.5), (1, 4.0), (1, 4.1)]) == {
        (3, 1): (1, 0, 0, 0),
        (4, 1): (0, 1, 1, 1),
    }


def test_what_was_known_is_counted_no_more_but_tells_who_comes_back() -> None:
    assert found_in([(1, 3.0), (1, 5.0), (1, 5.5), (2, 5.6)], known=2) == {(5, 2): (1, 0, 0, 0)}
    assert found_in([(1, 3.0), (1, 5.0)], known=1) == {(5, 1): (0, 1, 1, 2)}


def test_only_wanted_types_of_known_items_at_known_times_count() -> None:
    events = [(1, 3.0), (1, 4.0), (0, 4.5), (1, float("nan")), (1, 6.0)]
    assert found_in(events, kinds=[2, 1, 1, 1, 1]) == {
        (4, 1): (1, 0, 0, 0),
        (6, 1): (0, 1, 1, 2),
    }


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6).map(float)), max_size=12).map(
    lambda row: sorted(row, key=lambda event: event[1])
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(ROWS, st.integers(0, 12)), min_size=1, max_size=4))
def test_it_is_what_going_through_each_users_visits_says(users: list[tuple[list, int]]) -> None:
    wanted: Counter[tuple[int, int, str]] = Counter()
    for row, known in users:
        had: dict[int, list[int]] = {}
        for place, (item, at) in enumerate(row):
            windows = had.setdefault(item, [])
            if item == 0 or int(at) in windows:
                continue
            if place >= known:
                key, again = (int(at), item), bool(windows)
                wanted[*key, "firsts"] += not again
                wanted[*key, "seconds"] += len(windows) == 1
                wanted[*key, "returns"] += again
                wanted[*key, "gaps"] += int(at) - windows[-1] if again else 0
            windows.append(int(at))
    rows = sequences_of(*(row for row, _ in users), known=[min(k, len(r)) for r, k in users])
    told = counted(rows.to_batches()[0], None).to_pylist()
    found = Counter({(r["window"], r["index"], name): r[name] for r in told for name in COUNTS})
    assert +found == +wanted


def test_users_of_several_batches_are_added_up(spark: SparkSession) -> None:
    rows = sequences_of(*([[(1, 3.0), (1, 4.0)]] * 9 + [[(2, 3.0)]]))
    frame = spark.createDataFrame(rows.to_pandas()[["items", "types", "at", "known"]]).repartition(
        3
    )
    told = {(r["window"], r["index"]): r.asDict() for r in item_returns(frame, None).collect()}
    assert {k: tuple(r[n] for n in COUNTS) for k, r in told.items()} == {
        (3, 1): (9, 0, 0, 0),
        (3, 2): (1, 0, 0, 0),
        (4, 1): (0, 9, 9, 9),
    }
