"""The numbers by which a poisoned window is told from the others."""

from __future__ import annotations

import math

import pytest
from pyspark.sql import SparkSession

from recsys_lib.features.vitals import vitals

EVENT = "window int, user string"
COUNT = "window int, index int, events bigint, users bigint, value double"


def test_each_window_has_its_busiest_user_its_unfamiliar_items_and_its_shift_of_values(
    spark: SparkSession,
) -> None:
    events = spark.createDataFrame([(6, "u")] * 3 + [(6, "v"), (7, "w"), (2, "x")], EVENT)
    counts = spark.createDataFrame(
        [
            (2, 1, 1, 1, 5.0),  # five windows before 7, and four before 6
            (6, 1, 3, 1, 50.0),
            (6, 2, 1, 1, 3.0),
            (7, 1, 1, 1, 50.0),
        ],
        COUNT,
    )
    found = {row["window"]: row for row in vitals(events, counts, (6, 7)).collect()}
    assert sorted(found) == [6, 7]
    assert (found[6]["events"], found[6]["users"]) == (4, 2)
    assert found[6]["top_user_share"] == pytest.approx(0.75)
    assert found[6]["unfamiliar_share"] == pytest.approx(0.5)
    assert found[6]["value_shift"] == pytest.approx(math.log(10))
    assert found[7]["unfamiliar_share"] == 0.0
    assert found[7]["value_shift"] == pytest.approx(0.0)


def test_an_item_is_unfamiliar_when_it_was_away_too_long(spark: SparkSession) -> None:
    events = spark.createDataFrame([(7, "u")], EVENT)
    counts = spark.createDataFrame([(2, 1, 1, 1, 5.0), (7, 1, 1, 1, 5.0)], COUNT)
    assert vitals(events, counts, (7, 7)).collect()[0]["unfamiliar_share"] == 1.0


def test_without_values_there_is_no_shift(spark: SparkSession) -> None:
    events = spark.createDataFrame([(7, "u")], EVENT)
    counts = spark.createDataFrame([(6, 1, 1, 1, 0.0), (7, 1, 1, 1, 0.0)], COUNT)
    assert vitals(events, counts, (7, 7)).collect()[0]["value_shift"] is None


def test_late_rows_of_one_window_are_one_item_still(spark: SparkSession) -> None:
    events = spark.createDataFrame([(7, "u")], EVENT)
    counts = spark.createDataFrame([(6, 1, 1, 1, 1.0), (7, 1, 1, 2, 1.0), (7, 1, 1, 2, 3.0)], COUNT)
    found = vitals(events, counts, (7, 7)).collect()[0]
    assert found["unfamiliar_share"] == 0.0
    assert found["value_shift"] == pytest.approx(math.log(2))
