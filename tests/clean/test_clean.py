from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from recsys_lib.adapters.lake import Lake
from recsys_lib.clean.recipe import clean_increment
from recsys_lib.clean.split import check_rows, left_of, repeated_keys, split_checked
from recsys_lib.errors import SettingsError
from recsys_lib.ingest.bronze import SCHEMA
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings
from recsys_lib.types import CleanSplit

MAPPING = Mapping.model_validate(
    {
        "user": "u",
        "item": "i",
        "time": {"timestamp": "t"},
        "rejects": {"gift": "i = 'g'"},
        "windows": {"history": 1},
    }
)
BRONZE = f"{SCHEMA}, arrived timestamp, batch bigint"
ARRIVED = datetime(2020, 1, 10, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "source": "shop",
    "payload": "{}",
    "user": "u",
    "item": "i",
    "type": "event",
    "time": datetime(2020, 1, 5, tzinfo=UTC),
    "window": 0,
    "at": 0.5,
    "arrived": ARRIVED,
    "batch": 0,
}


def bronze(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    schema = spark.createDataFrame([], BRONZE).schema
    told = [{"key": f"k{n}", **GOOD, **row} for n, row in enumerate(rows)]
    return spark.createDataFrame([tuple(r.get(n) for n in schema.names) for r in told], schema)


def split(
    rows: DataFrame, limits: CleanSettings | None = None, accepted: DataFrame | None = None
) -> CleanSplit:
    """`accepted` holds the keys of silver as it was before these rows."""
    checked = check_rows(rows, MAPPING, limits or CleanSettings())
    return split_checked(checked, repeated_keys(checked, accepted, broadcast=True))


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"rejected": "unreadable", "user": None}, "unreadable"),
        ({"user": None, "item": None}, "missing_user"),
        ({"item": None}, "missing_item"),
        ({"user": "u" * 257}, "long_id"),
        ({"user": "u" * 256, "item": "i" * 257}, "long_id"),
        ({"time": None, "window": None}, "bad_time"),
        ({"time": datetime(1980, 1, 1, tzinfo=UTC), "window": None}, "too_early"),
        ({"time": ARRIVED + timedelta(days=2), "window": None}, "future"),
        ({"window": None}, "no_window"),
        ({"rejected": "gift"}, "gift"),
        ({"value": float("nan")}, "not_finite_value"),
        ({"quantity": float("-inf")}, "not_finite_quantity"),
        ({"value": 101.0}, "max_value"),
        ({"quantity": -11.0}, "max_quantity"),
        ({"value": 99.0, "time": ARRIVED + timedelta(hours=23)}, None),
    ],
)
def test_a_row_is_turned_away_by_the_first_rule_it_breaks(
    spark: SparkSession, row: dict[str, Any], rule: str | None
) -> None:
    limits = CleanSettings(max_value=100, max_quantity=10)
    sides = split(bronze(spark, row), limits)
    assert [r["rule"] for r in sides.rejected.collect()] == ([rule] if rule else [])
    assert sides.valid.count() == (0 if rule else 1)
    assert all(r["reason"] for r in sides.rejected.collect())


def test_a_rule_can_be_off_unless_rows_could_not_be_placed_without_it(spark: SparkSession) -> None:
    rows = bronze(spark, {"rejected": "gift"})
    assert split(rows, CleanSettings(off=("gift",))).valid.count() == 1
    with pytest.raises(SettingsError, match=r"(?s)no rule 'gfit'.*'bad_time' cannot be off"):
        split(rows, CleanSettings(off=("gfit", "bad_time")))


def test_of_rows_with_one_key_the_earliest_is_kept(spark: SparkSession) -> None:
    late, early = (
        {"time": datetime(2020, 1, 7, tzinfo=UTC)},
        {"time": datetime(2020, 1, 6, tzinfo=UTC)},
    )
    rows = bronze(spark, {"key": "k", **late}, {"key": "k", **early}, {"key": "other"})
    sides = split(rows)
    days = sides.valid.selectExpr("key", "day(time) AS day").collect()
    assert dict(map(tuple, days)) == {"k": 6, "other": 5}
    assert [(r["key"], r["rule"]) for r in sides.rejected.collect()] == [("k", "duplicate")]


def test_a_key_that_is_in_silver_is_turned_away(spark: SparkSession) -> None:
    silver = spark.createDataFrame([("k0",)], "key string")
    sides = split(bronze(spark, {}, {}), accepted=silver)
    assert [r["key"] for r in sides.valid.collect()] == ["k1"]
    assert [r["rule"] for r in sides.rejected.collect()] == ["duplicate"]


def arrive(lake: Lake, version: int, *rows: dict[str, Any]) -> None:
    lake.append_once("bronze", bronze(lake.spark, *rows), app="test", version=version)


def test_every_bronze_row_is_in_silver_or_in_quarantine(lake: Lake) -> None:
    arrive(lake, 0, {}, {"user": None}, {"key": "k0"})
    counts = clean_increment(lake, 4, MAPPING, CleanSettings())
    by_rule = {"duplicate": 1, "missing_user": 1}
    assert counts == {"rows": 3, "silver": 1, "quarantine": 2, "by_rule": by_rule}
    assert clean_increment(lake, 4, MAPPING, CleanSettings()) == counts, "from the ledger"
    arrive(lake, 1, {}, {})
    assert clean_increment(lake, 5, MAPPING, CleanSettings())["by_rule"] == {"duplicate": 1}
    assert (lake.read("silver").count(), lake.read("quarantine").count()) == (2, 3)


class KilledError(Exception):
    pass


def killed_before_silver(lake: Lake, limits: CleanSettings) -> None:
    append = lake.append_once

    def dying(table: str, rows: DataFrame, **told: Any) -> bool:
        if table == "silver":
            raise KilledError
        return append(table, rows, **told)

    lake.append_once = dying  # type: ignore[method-assign, assignment]
    with pytest.raises(KilledError):
        clean_increment(lake, 4, MAPPING, limits)
    lake.append_once = append  # type: ignore[method-assign]


def test_killed_between_quarantine_and_silver_the_same_rows_come_out(lake: Lake) -> None:
    arrive(lake, 0, {}, {"user": None}, {"key": "k0"})
    killed_before_silver(lake, CleanSettings())
    arrive(lake, 1, {"key": "k0"})
    counts = clean_increment(lake, 4, MAPPING, CleanSettings())
    assert (counts["rows"], counts["silver"], counts["quarantine"]) == (3, 1, 2)
    assert clean_increment(lake, 5, MAPPING, CleanSettings())["by_rule"] == {"duplicate": 1}


def test_killed_there_other_settings_move_no_row_that_was_judged(lake: Lake) -> None:
    day = [datetime(2020, 1, n, tzinfo=UTC) for n in (5, 6)]
    same = {"key": "same", "payload": "s"}
    rows = [{"value": 9.0}, {"rejected": "gift"}, {"value": 1.0}, {"user": None, "window": None}]
    arrive(lake, 0, *rows, {**same, "time": day[1]}, {**same, "time": day[0]})
    killed_before_silver(lake, CleanSettings(max_value=5.0))
    counts = clean_increment(lake, 4, MAPPING, CleanSettings(off=("gift",), max_value=0.5))
    by_rule = {"duplicate": 1, "gift": 1, "max_value": 1, "missing_user": 1}
    assert counts == {"rows": 6, "silver": 2, "quarantine": 4, "by_rule": by_rule}
    kept = lake.read("silver").select("key", "time").collect()
    assert {row["key"]: row["time"].day for row in kept} == {"k2": 5, "same": 5}


def test_killed_before_the_ledger_nothing_is_written_twice(lake: Lake) -> None:
    arrive(lake, 0, {}, {"user": None})
    mark, lake.mark_read = lake.mark_read, lambda *_, **__: None  # type: ignore[method-assign]
    clean_increment(lake, 4, MAPPING, CleanSettings())
    lake.mark_read = mark  # type: ignore[method-assign]
    counts = clean_increment(lake, 4, MAPPING, CleanSettings())
    assert (counts["silver"], counts["quarantine"]) == (1, 1)
    assert (lake.read("silver").count(), lake.read("quarantine").count()) == (1, 1)


def test_where_a_row_may_be_without_a_window_it_is_still_kept_once(lake: Lake) -> None:
    chosen = CleanSettings(off=("no_window",))
    arrive(lake, 0, {"key": "a", "window": None}, {"key": "b"})
    arrive(lake, 1, {"key": "a", "window": None}, {"key": "c"})
    lake.next_increment("bronze", "clean")
    arrive(lake, 2, {"key": "a", "window": None}, {"key": "d"})
    assert clean_increment(lake, None, MAPPING, chosen)["by_rule"] == {"duplicate": 1}
    assert clean_increment(lake, None, MAPPING, chosen)["by_rule"] == {"duplicate": 1}


def test_nothing_landed_is_no_error(lake: Lake) -> None:
    assert clean_increment(lake, 4, MAPPING, CleanSettings())["rows"] == 0


ROW = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["a", "b", "c"]),
        "user": st.sampled_from(["u", None]),
        "value": st.sampled_from([1.0, float("nan"), None]),
        "rejected": st.sampled_from([None, "gift", "unreadable"]),
        "window": st.sampled_from([0, None]),
    }
)


@given(rows=st.lists(ROW, min_size=1, max_size=8), known=st.sets(st.sampled_from(["a", "b"])))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_row_is_lost_or_doubled(
    spark: SparkSession, rows: list[dict[str, Any]], known: set[str]
) -> None:
    silver = spark.createDataFrame([(k,) for k in sorted(known)], "key string")
    sides = split(bronze(spark, *rows), accepted=silver)
    keys = [r["key"] for r in sides.valid.select("key").collect()]
    assert len(keys) + sides.rejected.count() == len(rows)
    assert len(keys) == len(set(keys))
    assert not known & set(keys)
    left = left_of(bronze(spark, *rows), sides.rejected).select("key").collect()
    assert sorted(row["key"] for row in left) == sorted(keys), "after a kill between the two"
