from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from recsys_lib.errors import SettingsError
from recsys_lib.ingest.axis import Axis, event_time, find_axis
from recsys_lib.ingest.bronze import SCHEMA, check_mapping, parse
from recsys_lib.mapping import Mapping
from recsys_lib.serve.events import _is_time

EARLIEST = "1990-01-01"


def mapping(**changes: Any) -> Mapping:
    told: dict[str, Any] = {
        "user": "user",
        "item": "item",
        "time": {"timestamp": "time"},
        "windows": {"history": 1, "days": 7, "start": "2020-01-06T00:00:00"},
    }
    return Mapping.model_validate({**told, **changes})


def parsed(spark: SparkSession, rows: list[tuple[Any, ...]], schema: str, m: Mapping) -> list[Row]:
    raw = spark.createDataFrame(rows, schema)
    return list(parse(raw, m, find_axis(raw, m, EARLIEST)).collect())


def test_a_row_knows_its_window_and_its_place_in_it(spark: SparkSession) -> None:
    rows = [(1, "a", "2020-01-06 00:00:00"), (1, "b", "2020-01-16 12:00:00")]
    found = parsed(spark, rows, "user int, item string, time string", mapping())
    assert [(r["window"], r["at"]) for r in found] == [(0, 0.0), (1, 1.5)]
    assert found[0]["user"] == "1"
    assert found[0]["type"] == "event"


def test_parsed_rows_have_the_landing_schema(spark: SparkSession) -> None:
    raw = spark.createDataFrame([(1, "a", "x")], "user int, item string, time string")
    found = parse(raw, mapping(), find_axis(raw, mapping(), EARLIEST))
    wanted = spark.createDataFrame([], SCHEMA).schema
    assert [(f.name, f.dataType) for f in found.schema] == [(f.name, f.dataType) for f in wanted]


def test_a_time_that_the_collector_takes_is_one_that_landing_reads(spark: SparkSession) -> None:
    zones = ["", "Z", "+01:00", "-17:59", "+18:00", "+19:00", "+0100", "+01"]
    clocks = ["T10:15", " 10:15:00", "T10:15:00.123456789", "T101500", "T24:00:00", "T10"]
    days = ["2026-01-05", "20260105", "2026-W02-1", "2026-02-30", "2026-01", "1970-1-1", "+12026"]
    texts = [f"2026-01-05{clock}{zone}" for clock in clocks for zone in zones]
    texts = [*texts, *days, "12:30", "T10:15:00", " 10:15:00Z", "now", "1704067200"]
    rows = spark.createDataFrame([(text,) for text in texts], "time string")
    found = rows.select("time", event_time(rows, mapping()).isNotNull().alias("read")).collect()
    read = {row["time"] for row in found if row["read"]}
    taken = {text for text in texts if _is_time(text)}
    assert len(taken) == 12
    assert taken <= read
    assert not read & {"12:30", "T10:15:00", " 10:15:00Z", "now", "1704067200", "20260105"}


@pytest.mark.parametrize("time", ["", "soon", "0001-01-01", "2999-01-01", None])
def test_a_time_that_cannot_be_true_has_no_window(spark: SparkSession, time: str | None) -> None:
    raw = spark.createDataFrame([(1, "a", time)], "user int, item string, time string")
    placed = parse(raw, mapping(), find_axis(raw, mapping(), EARLIEST)).select("window", "at")
    assert tuple(placed.collect()[0]) == (None, None)


def test_without_a_start_the_first_sane_midnight_is_window_0(spark: SparkSession) -> None:
    times = ["1970-01-01", "2020-03-05 17:00:00", "2020-03-13 01:00:00"]
    raw = spark.createDataFrame([(t,) for t in times], "time string").selectExpr(
        "1 AS user", "2 AS item", "time"
    )
    m = mapping(windows={"history": 1})
    axis = find_axis(raw, m, EARLIEST)
    assert axis == Axis(datetime(2020, 3, 5, tzinfo=UTC), 7.0)
    assert Axis.from_json(axis.to_json()) == axis
    assert [r["window"] for r in parse(raw, m, axis).collect()] == [None, 0, 1]


def test_a_counted_window_keeps_its_number_and_gets_a_fraction(spark: SparkSession) -> None:
    m = mapping(windows={"history": 1, "column": "week"})
    rows = [
        (1, "a", "2020-03-02", 9),
        (1, "a", "2020-03-05 12:00:00", 9),
        (1, "a", "2020-03-30", 10),
    ]
    found = parsed(spark, rows, "user int, item string, time string, week int", m)
    assert [(r["window"], r["at"]) for r in found] == [(9, 9.0), (9, 9.5), (10, 10.99)]


def test_a_counted_window_far_from_where_its_time_falls_is_none(spark: SparkSession) -> None:
    m = mapping(windows={"history": 1, "column": "week"})
    told = [("2020-03-02", 9), ("2020-03-09", 10), ("2020-03-09", 2_000_000_000), ("2020-03-10", 0)]
    rows = [(1, "a", *row) for row in [*told, ("2020-03-11", 2**32 + 10)]]
    found = parsed(spark, rows, "user int, item string, time string, week bigint", m)
    assert [r["window"] for r in found] == [9, 10, None, None, None]


def test_a_period_that_is_no_whole_number_of_32_bits_is_none(spark: SparkSession) -> None:
    m = mapping(time={"period": "p"}, windows={"history": 1})
    rows = [(1, 2, text) for text in ("7", str(2**32 + 7), "1e30", "NaN", "soon")]
    found = parsed(spark, rows, "user int, item int, p string", m)
    assert [r["window"] for r in found] == [7, None, None, None, None]


def test_a_period_is_all_the_time_there_is(spark: SparkSession) -> None:
    m = mapping(time={"period": "p"}, order="n", windows={"history": 1})
    (row,) = parsed(spark, [(1, 2, 3, 4)], "user int, item int, p int, n int", m)
    assert (row["window"], row["at"], row["time"], row["order"]) == (3, 3.0, None, 4)


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_epochs_of_every_unit_mean_the_same_time(
    spark: SparkSession, unit: str, scale: int
) -> None:
    m = mapping(time={"epoch": "t", "unit": unit})
    (row,) = parsed(spark, [(1, 2, 1578268800 * scale)], "user int, item int, t bigint", m)
    assert (row["window"], row["at"]) == (0, 0.0)


def test_equal_records_have_equal_keys_and_own_ids_win(spark: SparkSession) -> None:
    rows = [(1, "a", "2020-01-06"), (1, "a", "2020-01-06"), (1, "b", "2020-01-06")]
    schema = "user int, item string, time string"
    one, same, other = (r["key"] for r in parsed(spark, rows, schema, mapping()))
    assert one == same != other
    one, same, other = (r["key"] for r in parsed(spark, rows, schema, mapping(id="user")))
    assert one == same == other


def test_the_first_reject_that_holds_is_noted(spark: SparkSession) -> None:
    m = mapping(rejects={"gift": "item = 'g'", "bulk": "user > 5"})
    rows = [(9, "g", "2020-01-06"), (9, "a", "2020-01-06"), (1, "a", "2020-01-06")]
    found = parsed(spark, rows, "user int, item string, time string", m)
    assert [r["rejected"] for r in found] == ["gift", "bulk", None]


def test_attributes_without_a_table_travel_with_the_event(spark: SparkSession) -> None:
    m = mapping(items={"id": "item", "attributes": {"color": "upper(c)", "size": "s"}})
    rows = [(1, "a", "2020-01-06", "red", None)]
    (row,) = parsed(spark, rows, "user int, item string, time string, c string, s string", m)
    assert row["item_attributes"] == ["RED", None]
    assert row["user_attributes"] is None


def test_a_mapping_is_checked_against_the_log_as_a_whole(spark: SparkSession) -> None:
    raw = spark.createDataFrame([(1, "a", "x")], "user int, item string, time string")
    wrong = mapping(user="usr", value="prise", items={"id": "item", "attributes": {"c": "colr"}})
    with pytest.raises(SettingsError) as caught:
        check_mapping(raw, wrong)
    assert [f.split(":")[0] for f in caught.value.faults] == ["user", "value", "items.attributes.c"]
