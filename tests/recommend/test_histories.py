from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from recsys_lib.errors import SourceError
from recsys_lib.model.histories import Histories
from recsys_lib.recommend.histories import ANSWERS, Asking, Clock
from tests.model.tiny import catalog_of

START = datetime(2020, 1, 6, tzinfo=UTC)
WEEKS = Clock(start=START.timestamp(), days=7.0, unit="s", periods=False)
NAN = float("nan")


def asking(**changes: Any) -> Asking:
    shop = catalog_of(5, types=("", "view", "buy"), profile=(3,))
    known = {"catalog": shop, "clock": WEEKS, "task": "next_window", "learned": 9}
    return Asking(**{**known, "targets": ("buy",), **changes})


def read(columns: dict[str, Any], **changes: Any) -> Histories:
    return asking(**changes).histories(pa.table(columns))[1]


def test_ids_become_indices_and_what_the_shop_does_not_know_becomes_zero() -> None:
    histories = read({"request_id": ["x", "y"], "items": [["b", "zz", "a"], ["e"]]})
    assert histories.items.tolist() == [2, 0, 1, 5]
    assert histories.offsets.tolist() == [0, 3, 4]


def test_the_empty_id_is_not_an_item() -> None:
    assert read({"request_id": ["x"], "items": [["", None, "a"]]}).items.tolist() == [0, 0, 1]


@pytest.mark.parametrize("items", [[12, 7], [12.0, 7.0], ["12", "7"], ["12.0", "7.00"]])
def test_numbers_name_the_same_items_as_their_text(items: list[Any]) -> None:
    shop = catalog_of(2)
    shop = type(shop)(**{**vars(shop), "ids": np.array(["", "7", "12"])})
    histories = read({"request_id": ["x"], "items": [items]}, catalog=shop)
    assert histories.items.tolist() == [2, 1]


def test_requests_without_any_item_are_empty_histories() -> None:
    items = pa.array([[], None, ["a"]], pa.list_(pa.string()))
    histories = read({"request_id": ["x", "y", "z"], "items": items})
    assert histories.offsets.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("items", [[], [None], [[]]])
def test_a_table_in_which_nobody_has_a_history_is_one_of_empty_histories(items: list[Any]) -> None:
    ids = ["x"] * len(items)
    assert len(read({"request_id": ids, "items": items, "times": items})) == len(items)


def test_request_ids_of_any_type_come_back_as_text() -> None:
    ids, _ = asking().histories(pa.table({"request_id": [7, 8], "items": [["a"], ["b"]]}))
    assert ids.to_pylist() == ["7", "8"]


def test_types_are_the_target_type_unless_they_are_told() -> None:
    told = {"request_id": ["x"], "items": [["a", "b"]]}
    assert read(told).types.tolist() == [2, 2]
    assert read({**told, "types": [["view", "spin"]]}).types.tolist() == [1, 0]


@pytest.mark.parametrize(
    "times",
    [
        pa.array([[1578873600000000, 1579176000000000]]).cast(pa.list_(pa.timestamp("us"))),
        pa.array([["2020-01-13", "2020-01-16T12:00:00"]]),
        pa.array([["2020-01-13T00:00:00Z", "2020-01-16T14:00:00+02:00"]]),
        pa.array([[1578873600, 1579176000]]),
        pa.array([[1578873600.0, 1579176000.0]]),
    ],
    ids=["timestamps", "ISO text", "ISO text with a zone", "epochs", "float epochs"],
)
def test_times_of_every_kind_land_on_the_window_axis(times: pa.Array) -> None:
    histories = read({"request_id": ["x"], "items": [["a", "b"]], "times": times})
    assert histories.at.tolist() == [1.0, 1.5]


def test_timestamps_with_a_zone_are_moments() -> None:
    zoned = pa.array([[START]], pa.list_(pa.timestamp("us", tz="Europe/Berlin")))
    histories = read({"request_id": ["x"], "items": [["a"]], "times": zoned})
    assert histories.at.tolist() == [0.0]


def test_a_time_at_the_very_end_of_a_window_stays_in_it() -> None:
    last = pa.array([START.timestamp() + 7 * 86_400 - 0.01, START.timestamp() + 7 * 86_400])
    assert WEEKS.at(last).tolist() == pytest.approx([0.99, 1.0])


def test_epochs_are_in_the_unit_of_the_mapping() -> None:
    clock = Clock(start=START.timestamp(), days=7.0, unit="ms", periods=False)
    times = [[1578873600000]]
    told = {"request_id": ["x"], "items": [["a"]], "times": times}
    assert read(told, clock=clock).at.tolist() == [1.0]


def test_periods_are_windows_already() -> None:
    clock = Clock(start=None, days=1.0, unit="s", periods=True)
    told = {"request_id": ["x"], "items": [["a", "b"]], "times": [[3, 4]]}
    assert read(told, clock=clock).at.tolist() == [3.0, 4.0]


def test_unknown_times_are_not_a_number() -> None:
    told = {"request_id": ["x"], "items": [["a", "b"]]}
    assert np.isnan(read(told).at).all()
    times = pa.array([[1578873600, None]])
    assert read({**told, "times": times}).at.tolist() == pytest.approx([1.0, NAN], nan_ok=True)


@pytest.mark.parametrize("periods", [False, True])
def test_a_time_without_end_is_unknown(periods: bool) -> None:
    clock = Clock(start=START.timestamp(), days=7.0, unit="s", periods=periods)
    told = {"request_id": ["x"], "items": [["a", "b"]], "times": [[float("inf"), -float("inf")]]}
    assert np.isnan(read(told, clock=clock).at).all()


def test_without_a_start_of_the_axis_timestamps_are_unknown() -> None:
    clock = Clock(start=None, days=1.0, unit="s", periods=False)
    told = {"request_id": ["x"], "items": [["a"]], "times": [["2020-01-13"]]}
    assert np.isnan(read(told, clock=clock).at).all()


def test_a_window_model_is_asked_for_the_window_after_its_last() -> None:
    histories = read({"request_id": ["x", "y"], "items": [["a"], []]})
    assert histories.now.tolist() == [10.0, 10.0]


def test_a_session_model_is_asked_at_its_last_event() -> None:
    told = {
        "request_id": ["x", "y"],
        "items": pa.array([["a", "b"], []], pa.list_(pa.string())),
        "times": pa.array([[1578873600, 1579176000], []], pa.list_(pa.int64())),
    }
    found = read(told, task="next_item").now.tolist()
    assert found == pytest.approx([1.5, NAN], nan_ok=True)


def test_the_asked_moment_may_be_told() -> None:
    told = {"request_id": ["x"], "items": [["a"]], "now": ["2020-01-20"]}
    assert read(told).now.tolist() == [2.0]


def test_profiles_are_unknown() -> None:
    assert read({"request_id": ["x"], "items": [["a"]]}).profile.tolist() == [[0]]


def test_values_that_are_no_numbers_are_told() -> None:
    told = {"request_id": ["x"], "items": [["a", "b"]], "values": [["1.5", "n/a"]]}
    with pytest.raises(SourceError, match=r"values must be numbers.*n/a.*leave the column out"):
        read(told)


def test_values_are_read_and_unknown_ones_are_nothing() -> None:
    told = {"request_id": ["x"], "items": [["a", "b", "a"]], "values": [[2.5, None, 1]]}
    assert read(told).values.tolist() == [2.5, 0.0, 1.0]
    assert read({"request_id": ["x"], "items": [["a"]]}).values.tolist() == [0.0]


@pytest.mark.parametrize("column", ["types", "times", "values"])
def test_lists_of_unequal_lengths_are_refused_with_the_request(column: str) -> None:
    lists = {
        "types": [["buy"], ["buy"]],
        "times": [[1578873600], [1578873600]],
        "values": [[1.0], [1.0]],
    }
    values = lists[column]
    told = {"request_id": ["good", "bad"], "items": [["a"], ["a", "b"]], column: values}
    with pytest.raises(
        SourceError, match=rf"{column} must be as long as items, got 1 and 2 .*'bad'"
    ):
        read(told)


@pytest.mark.parametrize("missing", ["request_id", "items"])
def test_a_missing_column_is_refused_by_name(missing: str) -> None:
    told = {"request_id": ["x"], "items": [["a"]]}
    with pytest.raises(SourceError, match=rf"rename or add {missing}$"):
        read({name: value for name, value in told.items() if name != missing})


def test_items_that_are_no_list_are_refused() -> None:
    with pytest.raises(SourceError, match="items must be a column of lists, got bool"):
        read({"request_id": ["x"], "items": [True]})


def test_times_that_nobody_can_read_are_refused() -> None:
    told = {"request_id": ["x"], "items": [["a"]], "times": [["yesterday"]]}
    with pytest.raises(SourceError, match="times must be timestamps, ISO text or numbers"):
        read(told)


def test_a_csv_column_of_single_items_is_a_column_of_short_lists() -> None:
    shop = catalog_of(2)
    shop = type(shop)(**{**vars(shop), "ids": np.array(["", "7", "12"])})
    histories = read({"request_id": ["x", "y"], "items": [12, None]}, catalog=shop)
    assert (histories.items.tolist(), histories.offsets.tolist()) == ([2], [0, 1, 1])


@pytest.mark.parametrize("text", ["a b zz", "[a, b, zz]", "['a', 'b', 'zz']", '["a","b","zz"]'])
def test_text_of_a_csv_is_read_as_a_list(text: str) -> None:
    assert read({"request_id": ["x"], "items": [text]}).items.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    "text",
    [
        """["a, b", "it's", "\\u540d"]""",
        """['a, b', "it's", '\u540d']""",
        """['a, b' "it's"
 '\u540d']""",
    ],
    ids=["JSON", "list", "numpy"],
)
def test_ids_in_the_text_of_a_csv_may_hold_spaces_commas_and_quotes(text: str) -> None:
    shop = catalog_of(3)
    shop = type(shop)(**{**vars(shop), "ids": np.array(["", "a, b", "it's", "\u540d"])})
    assert read({"request_id": ["x"], "items": [text]}, catalog=shop).items.tolist() == [1, 2, 3]


@pytest.mark.parametrize("quote", ["'", '"'])
def test_times_in_the_text_of_a_csv_may_have_a_space_before_the_hour(quote: str) -> None:
    times = f"[{quote}2020-01-13 00:00:00{quote}, {quote}2020-01-16 12:00:00{quote}]"
    assert read({"request_id": ["x"], "items": ["[a, b]"], "times": [times]}).at.tolist() == [
        1,
        1.5,
    ]


@pytest.mark.parametrize("text", ["", "[]", None])
def test_empty_text_of_a_csv_is_an_empty_history(text: str | None) -> None:
    items = pa.array([text, "a"], pa.string())
    histories = read({"request_id": ["x", "y"], "items": items})
    assert histories.offsets.tolist() == [0, 0, 1]
    assert histories.items.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "at", "value"),
    [
        ("items,times\nb,2020-01-13T00:00:00\n", 1.0, 0.0),
        ("items,times\nb,2020-01-13\n", 1.0, 0.0),
        ("items,times\nb,1578873600.0\n", 1.0, 0.0),
        ("items,times\nb,1578873600\n", 1.0, 0.0),
        ("items,values\nb,2.5\n", NAN, 2.5),
    ],
    ids=["timestamps", "dates", "float epochs", "epochs", "values"],
)
def test_one_event_a_row_of_a_csv_is_a_list_of_one(text: str, at: float, value: float) -> None:
    table = csv.read_csv(BytesIO(text.encode()))
    table = table.append_column("request_id", pa.array(["x"]))
    _, histories = asking().histories(table)
    assert histories.items.tolist() == [2]
    assert histories.at.tolist() == pytest.approx([at], nan_ok=True)
    assert histories.values is not None
    assert histories.values.tolist() == [value]


@pytest.mark.parametrize(("task", "usual"), [("next_window", 10.0), ("next_item", 1.0)])
def test_a_request_that_does_not_say_when_is_asked_at_the_usual_time(
    task: str, usual: float
) -> None:
    told = {
        "request_id": ["x", "y"],
        "items": [["a"], ["a"]],
        "times": [["2020-01-13"], ["2020-01-13"]],
        "now": pa.array([None, "2020-01-20"]),
    }
    assert read(told, task=task).now.tolist() == [usual, 2.0]


def test_the_words_of_a_shop_are_looked_up_in_what_was_made_once() -> None:
    reader = asking()
    table = pa.table({"request_id": ["x"], "items": [["b"]], "types": [["buy"]]})
    reader.histories(table)
    words = reader._words
    reader.histories(table)
    assert reader._words is words


def test_times_in_the_text_of_a_csv_are_epochs_when_they_are_numbers() -> None:
    told = {"request_id": ["x"], "items": ["a b"], "times": ["1578873600 1579176000"]}
    assert read(told).at.tolist() == [1.0, 1.5]


def test_answers_name_items_and_leave_out_empty_places() -> None:
    items = np.array([[2, 5], [3, 0], [0, 0]], dtype=np.int32)
    scores = np.array([[-1.0, -2.0], [-1.5, -np.inf], [-np.inf, -np.inf]], dtype=np.float32)
    answer = asking().answers(pa.array(["x", "y", "z"]), items, scores)
    assert answer.schema == ANSWERS
    assert answer.to_pylist() == [
        {"request_id": "x", "items": ["b", "e"], "scores": [-1.0, -2.0]},
        {"request_id": "y", "items": ["c"], "scores": [-1.5]},
        {"request_id": "z", "items": [], "scores": []},
    ]


@pytest.mark.parametrize(
    ("lineage", "clock"),
    [
        ({}, Clock(None, 1.0, "s", False)),
        (
            {"axis": '{"start": "2020-01-06T00:00:00", "days": 7}', "time": {"timestamp": "t"}},
            Clock(START.timestamp(), 7, "s", False),
        ),
        ({"axis": "{}", "time": {"period": "p"}}, Clock(None, 1.0, "s", True)),
        (
            {"axis": '{"start": "2020-01-06", "days": 1}', "time": {"epoch": "t", "unit": "ms"}},
            Clock(START.timestamp(), 1, "ms", False),
        ),
    ],
    ids=["nothing", "timestamps", "periods", "epochs"],
)
def test_a_clock_is_set_by_what_the_model_remembers(lineage: dict[str, Any], clock: Clock) -> None:
    assert Clock.of(lineage) == clock
