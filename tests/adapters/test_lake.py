from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from recsys_lib.adapters.lake import Lake
from recsys_lib.errors import LakeError
from recsys_lib.types import Increment


def test_an_append_of_the_same_version_adds_no_row(lake: Lake, spark: SparkSession) -> None:
    rows = spark.createDataFrame([("a", 1)], "id string, n int")
    assert lake.append_once("t", rows, app="test", version=3)
    assert not lake.append_once("t", rows, app="test", version=3)
    assert not lake.append_once("t", rows, app="test", version=2)
    assert lake.read("t").count() == 1
    assert lake.done("t", "test", 3)
    assert not lake.done("t", "test", 4)


def test_two_writers_do_not_shadow_each_other(lake: Lake, spark: SparkSession) -> None:
    rows = spark.createDataFrame([("a", 1)], "id string, n int")
    lake.append_once("t", rows, app="one", version=5)
    assert lake.append_once("t", rows, app="two", version=1)


def test_an_increment_stays_the_same_while_the_table_grows(lake: Lake, spark: SparkSession) -> None:
    for version in range(2):
        rows = spark.createDataFrame([(f"a{version}", version)], "id string, window int")
        lake.append_once("t", rows, app="test", version=version)
    first = lake.next_increment("t", reader="r")
    assert first is not None
    assert (first.rows, first.first_window, first.last_window) == (2, 0, 1)
    lake.append_once("t", rows, app="test", version=2)
    assert lake.next_increment("t", reader="r") == first, "opened, not read: it comes again"
    assert {row["id"] for row in lake.read(first).collect()} == {"a0", "a1"}
    lake.mark_read(first, "r", window=1, counts={"n": 2})
    second = lake.next_increment("t", reader="r")
    assert second is not None
    assert (second.from_version, second.rows) == (2, 1)
    lake.mark_read(second, "r", window=2)
    assert lake.next_increment("t", reader="r") is None
    assert lake.ledger.recorded("t", "r", 1)["counts"] == {"n": 2}  # type: ignore[index]
    assert lake.ledger.recorded("t", "r", 7) is None


def test_delta_does_not_clean_the_log_that_slow_readers_read(
    lake: Lake, spark: SparkSession
) -> None:
    """By itself it would delete commits of more than 30 days ago with every tenth one."""
    lake.append_once("t", spark.range(1), app="test", version=0)
    lake.merge_once("m", spark.range(1), on=["id"], app="test", version=0)
    for table in ("t", "m"):
        told = DeltaTable(lake.path(table)).metadata().configuration
        assert told["delta.enableExpiredLogCleanup"] == "false"


def test_an_increment_of_a_partitioned_table_has_all_columns(
    lake: Lake, spark: SparkSession
) -> None:
    rows = spark.createDataFrame([("a", 1), ("b", 2)], "id string, window int")
    lake.append_once("t", rows, app="test", version=0, partition_by=["window"])
    read = lake.read(Increment("t", 0, 1))
    assert sorted((r["id"], r["window"]) for r in read.collect()) == [("a", 1), ("b", 2)]


def test_a_lake_may_lie_in_a_folder_that_looks_like_a_pattern(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = Lake(spark, str(tmp_path / "run [1]{a}" / "lake"))
    lake.append_once("t", spark.range(2), app="test", version=0)
    assert lake.read("t").count() == lake.read(Increment("t", 0, 1)).count() == 2
    first = Increment("t", 0, 1)
    for by in ("a", "b"):
        lake.pin(first, by)
    lake.append_once("t", spark.range(2), app="test", version=1)
    lake.compact("t")
    lake.unpin("a")
    lake.vacuum("t", hours=0)
    assert lake.read(first).count() == 2, "b pins it"
    lake.unpin("b")
    assert lake.pins.held("t") == set()


def test_readers_do_not_disturb_each_other(lake: Lake, spark: SparkSession) -> None:
    lake.append_once("t", spark.range(1), app="test", version=0)
    one = lake.next_increment("t", reader="one")
    assert one is not None
    lake.mark_read(one, "one")
    assert lake.next_increment("t", reader="two") is not None


def test_a_merge_replaces_inserts_and_repeats_nothing(lake: Lake, spark: SparkSession) -> None:
    schema = "id string, v string, updated int"
    lake.merge_once(
        "t", spark.createDataFrame([("a", "old", 5), ("b", "old", 5)], schema),
        on=["id"], app="m", version=0,
    )  # fmt: skip
    news = spark.createDataFrame([("b", "new", 6), ("c", "new", 1)], schema)
    assert lake.merge_once("t", news, on=["id"], app="m", version=1)
    assert not lake.merge_once("t", news, on=["id"], app="m", version=1)
    found = {row["id"]: row["v"] for row in lake.read("t").collect()}
    assert found == {"a": "old", "b": "new", "c": "new"}


def test_the_log_itself_refuses_a_repeated_merge(lake: Lake, spark: SparkSession) -> None:
    """Two processes may both find the merge undone; Delta lets one of them through."""
    rows = spark.createDataFrame([("a", 1)], "id string, n int")
    lake.merge_once("t", rows, on=["id"], app="m", version=0)
    lake.merge_once("t", rows, on=["id"], app="m", version=1)
    before = lake.version("t")
    lake.done = lambda *_: False  # type: ignore[method-assign, assignment]
    lake.merge_once("t", rows, on=["id"], app="m", version=1)
    assert lake.version("t") == before


def test_what_is_not_there_is_named(lake: Lake, spark: SparkSession) -> None:
    with pytest.raises(LakeError, match="table 'gone' is not in"):
        lake.read("gone")
    lake.append_once("t", spark.range(1), app="test", version=0)
    with pytest.raises(LakeError, match="must be 0 to 0, got 9"):
        lake.read("t", version=9)
    with pytest.raises(LakeError, match="rolled back"):
        lake.read(Increment("t", 0, 5))


def test_an_old_version_reads_as_it_was(lake: Lake, spark: SparkSession) -> None:
    for version in range(2):
        lake.append_once("t", spark.range(1), app="test", version=version)
    assert lake.read("t", version=0).count() == 1
    assert lake.read("t").count() == 2
