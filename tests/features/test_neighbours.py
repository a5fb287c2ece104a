from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_lib.features import neighbours
from recsys_lib.features.neighbours import (
    SCHEMA,
    after_known,
    base_of,
    coded,
    neighbours_after,
    pairs,
)
from recsys_lib.settings import FeatureSettings

EVENTS = "key string, user string, item string, time timestamp, `window` int, `order` bigint"
WORDS = [("item", name, n + 1) for n, name in enumerate("abcdef")]


def events(spark: SparkSession, *rows: tuple[str, str, int]) -> DataFrame:
    """(user, item, order); all at one time."""
    told = [(f"{n}", user, item, None, 0, order) for n, (user, item, order) in enumerate(rows)]
    return spark.createDataFrame(told, EVENTS)


def words(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(WORDS, "kind string, id string, index int")


def weights(frame: DataFrame) -> dict[tuple[int, int], float]:
    rows = frame.groupBy("item", "other").agg({"weight": "sum"}).collect()
    return {(row[0], row[1]): row[2] for row in rows}


def test_a_pair_weighs_one_over_its_distance_in_both_directions(spark: SparkSession) -> None:
    told = events(spark, ("u", "a", 1), ("u", "b", 2), ("u", "c", 3))
    found = weights(pairs(coded(told, words(spark)), 10))
    assert found == {(1, 2): 1, (2, 1): 1, (2, 3): 1, (3, 2): 1, (1, 3): 0.5, (3, 1): 0.5}


def test_pairs_do_not_cross_users_nor_the_set_distance(spark: SparkSession) -> None:
    told = events(spark, ("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("v", "d", 1), ("w", "e", 9))
    assert set(weights(pairs(coded(told, words(spark)), 1))) == {(1, 2), (2, 1), (2, 3), (3, 2)}


def test_an_item_is_not_near_itself_and_unknown_items_are_near_nothing(spark: SparkSession) -> None:
    told = events(spark, ("u", "a", 1), ("u", "a", 2), ("u", "zz", 3))
    assert weights(pairs(coded(told, words(spark)), 10)) == {}


def known(spark: SparkSession, **items: list[int]) -> DataFrame:
    return spark.createDataFrame(list(items.items()), "user string, items array<int>")


def test_a_new_event_is_near_the_last_ones_that_were_known_of_its_user(
    spark: SparkSession,
) -> None:
    before = known(spark, u=[4, 5, 6], v=[1, 2], w=[3, 4])
    told = coded(events(spark, ("u", "a", 1), ("u", "b", 2), ("v", "c", 1)), words(spark))
    found = weights(pairs(after_known(told, before, 2), 2))
    both = {(6, 1): 1, (6, 2): 0.5, (5, 1): 0.5, (1, 2): 1, (2, 3): 1, (1, 3): 0.5}
    assert found == {**both, **{(two, one): weight for (one, two), weight in both.items()}}


def test_unknown_items_of_a_history_take_no_place_and_the_fold_is_that_of_the_user(
    spark: SparkSession,
) -> None:
    told = coded(events(spark, ("u", "a", 1)), words(spark))
    found = pairs(after_known(told, known(spark, u=[2, 0, 0]), 1), 1)
    fold = told.collect()[0]["fold"]
    rows = sorted((r["item"], r["other"], r["fold"]) for r in found.collect())
    assert rows == [(1, 2, fold), (2, 1, fold)]


def state(spark: SparkSession, *rows: tuple[int, int, list[tuple[float, int]], float, int]) -> Any:
    return spark.createDataFrame(list(rows), SCHEMA)


def baskets(spark: SparkSession, *items: tuple[int, ...]) -> DataFrame:
    """Coded new events of fold 0: each basket is another user's, in this order."""
    rows = [
        (f"{user}-{place}", f"{user}", item, None, 0, place, 0, True)
        for user, basket in enumerate(items)
        for place, item in enumerate(basket)
    ]
    names = "key string, user string, index int, time timestamp, `window` int, `order` int"
    return spark.createDataFrame(rows, f"{names}, fold int, new boolean")


def listed(frame: DataFrame) -> dict[tuple[int, int], tuple[list[tuple[float, int]], float, int]]:
    rows = frame.select("item", "fold", "near", "mass", "window").collect()
    return {
        (r["item"], r["fold"]): ([tuple(p) for p in r["near"]], r["mass"], r["window"])
        for r in rows
    }


def test_older_weights_fade_and_new_ones_are_added(spark: SparkSession) -> None:
    settings = FeatureSettings(neighbour_decay=0.5)
    before = state(spark, (1, 0, [(4.0, 2), (1.0, 3)], 8.0, 5), (9, 0, [(1.0, 1)], 1.0, 5))
    found = listed(neighbours_after(before, baskets(spark, (1, 3), (3, 1)), 7, settings))
    assert found == {
        (1, 0): ([(2.25, 3), (1.0, 2)], 4.0, 7),
        (3, 0): ([(2.0, 1)], 2.0, 7),
    }


def test_an_item_that_came_alone_keeps_its_state_at_its_age(spark: SparkSession) -> None:
    settings = FeatureSettings(neighbour_decay=0.5)
    before = state(spark, (1, 0, [(4.0, 2)], 8.0, 5))
    found = listed(neighbours_after(before, baskets(spark, (1,)), 6, settings))
    assert found == {(1, 0): ([(2.0, 2)], 4.0, 6)}


def test_the_state_of_an_item_is_what_was_told_last_and_a_whole_one_has_every_item(
    spark: SparkSession,
) -> None:
    settings = FeatureSettings(neighbour_decay=0.5)
    old = (1, 0, [(9.0, 5)], 9.0, 4), (9, 0, [(4.0, 1)], 8.0, 4)
    before = state(spark, *old, (1, 0, [(4.0, 2)], 8.0, 5))
    told = baskets(spark, (1, 3))
    touched = {(1, 0): ([(2.0, 2), (1.0, 3)], 5.0, 6), (3, 0): ([(1.0, 1)], 1.0, 6)}
    assert listed(neighbours_after(before, told, 6, settings)) == touched
    whole = listed(neighbours_after(before, told, 6, settings, whole=True))
    assert whole == {**touched, (9, 0): ([(1.0, 1)], 2.0, 6)}


def test_a_base_carries_so_many_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "WINDOWS_OF_A_BASE", 3)
    written: list[tuple[int, int]] = []
    for window in (-2, 0, 1, 5, 6, 9, 12):
        written.append((base_of(window, written), window))
    assert [base for base, _ in written] == [-2, -2, -2, 5, 5, 5, 12]


def test_only_the_heaviest_are_kept_but_all_of_them_count_in_the_mass(spark: SparkSession) -> None:
    settings = FeatureSettings(neighbours_kept=2)
    told = baskets(spark, (1, 2), *[(1, 3)] * 5, (1, 4), *[(1, 5)] * 2)
    found = listed(neighbours_after(state(spark), told, 0, settings))
    assert found[(1, 0)][0] == [(5.0, 3), (2.0, 5)]
    assert found[(1, 0)][1] == pytest.approx(9.0)


def test_what_was_near_a_known_item_stays_when_it_is_met_from_the_next_increment(
    spark: SparkSession,
) -> None:
    settings = FeatureSettings(neighbour_decay=0.5)
    told = coded(events(spark, ("u", "a", 1)), words(spark))
    fold = told.collect()[0]["fold"]
    before = state(spark, (2, fold, [(4.0, 3)], 8.0, 5))
    seam = after_known(told, known(spark, u=[2]), 5)
    found = listed(neighbours_after(before, seam, 6, settings))
    assert found == {
        (1, fold): ([(1.0, 2)], 1.0, 6),
        (2, fold): ([(2.0, 3), (1.0, 1)], 5.0, 6),
    }
