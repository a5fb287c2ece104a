from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_lib.evaluate.baselines import PersonalFrequency, Popularity
from recsys_lib.evaluate.metrics import metric_names
from recsys_lib.evaluate.window import score_window, slices_of, unseen
from recsys_lib.model.requests import requests
from recsys_lib.settings import EvaluateSettings
from tests.evaluate.naive import histories_of, targets_of

SCHEMA = (
    "window int, user string, items array<int>, types array<int>, at array<float>, "
    "values array<float>, known int, profile array<int>"
)
SETTINGS = EvaluateSettings(ks=(2, 3), batch_rows=2)
POPULARITY = np.array([0.0, 8.0, 4.0, 2.0, 1.0])


def sequences(spark: SparkSession, *rows: tuple[str, list[int], int]) -> DataFrame:
    """(user, items, known): the known events are of window 6, the rest of window 7."""
    full = [
        (
            7,
            user,
            items,
            [1] * len(items),
            [6.5] * known + [7.5] * (len(items) - known),
            [],
            known,
            [],
        )
        for user, items, known in rows
    ]
    return spark.createDataFrame(
        [(w, u, i, t, a, [0.0] * len(i), k, p) for w, u, i, t, a, _, k, p in full], SCHEMA
    )


def both() -> list[Popularity]:
    return [Popularity(POPULARITY), PersonalFrequency(POPULARITY)]


def test_every_scorer_is_judged_on_every_user_with_sums_and_new_items_apart(
    spark: SparkSession,
) -> None:
    rows = sequences(spark, ("a", [3, 3, 4], 1), ("b", [1, 2], 0), ("c", [4, 4], 1))
    weekly = partial(requests, task="next_window")
    found = score_window(rows, both, weekly, SETTINGS)
    by_key = {(r["scorer"], r["user"]): r.asDict() for r in found.collect()}
    assert set(by_key) == {(s.name, user) for s in both() for user in "ac"}  # b has no history
    personal = by_key["personal_frequency", "a"]
    assert (personal["window"], personal["requests"], personal["new:requests"]) == (7, 1, 1)
    assert personal["top"] == [3, 1, 2]
    assert personal["recall@2"] == 0.5  # 3 of {3, 4}
    assert personal["new:recall@3"] == 1.0  # 4, once 3 is left out
    assert personal["slices"] == ["short", "light"]
    again = by_key["personal_frequency", "c"]
    assert (again["new:requests"], again["new:hit@3"]) == (0, 0.0)
    assert by_key["popularity", "c"]["hit@3"] == 0.0


def test_sums_of_a_session_are_over_all_its_later_positions(spark: SparkSession) -> None:
    rows = sequences(spark, ("s", [1, 2, 1, 3, 9], 0), ("lonely", [2], 0))
    next_item = partial(requests, task="next_item", known_items=4)
    found = score_window(rows, lambda: [Popularity(POPULARITY)], next_item, SETTINGS, new=False)
    (row,) = found.collect()
    assert (row["user"], row["requests"]) == ("s", 3)  # item 9 was never seen before
    assert row["hit@2"] == 2.0  # 2, then 1; not 3
    assert row["hit@3"] == 3.0
    assert row["mrr@3"] == pytest.approx(1 / 2 + 1 + 1 / 3)


def test_window_without_a_known_user_gives_no_rows_and_loads_no_scorer(
    spark: SparkSession,
) -> None:
    def never() -> list[Popularity]:
        raise AssertionError("loaded for nobody")

    weekly = partial(requests, task="next_window")
    for rows in (sequences(spark), sequences(spark, ("b", [1, 2], 0))):
        found = score_window(rows, never, weekly, SETTINGS)
        assert found.count() == 0
        assert set(metric_names((2, 3))) <= set(found.columns)


def test_requests_without_any_target_do_not_count(spark: SparkSession) -> None:
    def nothing_wanted(batch: pa.RecordBatch):  # type: ignore[no-untyped-def]
        size = batch.num_rows
        return (
            histories_of(*([(1, 6.0)] for _ in range(size))),
            targets_of(*[[0]] * size),
            np.arange(size),
        )

    rows = sequences(spark, ("a", [3, 4], 1))
    assert score_window(rows, both, nothing_wanted, SETTINGS).count() == 0


def test_slices_follow_the_length_of_the_known_history() -> None:
    assert slices_of(np.array([0, 9, 10, 49, 50, 2000])) == [
        ["short", "light"],
        ["short", "light"],
        ["light"],
        ["light"],
        ["heavy"],
        ["heavy"],
    ]


def test_new_targets_are_those_outside_the_own_history() -> None:
    fresh = unseen(histories_of([(1, 1.0)], [(2, 1.0)]), targets_of([1, 2, 2], [2]))
    assert fresh.items.tolist() == [2]
    assert fresh.offsets.tolist() == [0, 1, 1]
