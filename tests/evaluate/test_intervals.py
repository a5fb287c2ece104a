from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_lib.evaluate.intervals import (
    ALL,
    Replicates,
    across_windows,
    by_slice,
    coverage,
    estimate,
    replicates,
    reports,
    weights,
)
from recsys_lib.settings import EvaluateSettings

SETTINGS = EvaluateSettings(ks=(10,), bootstrap=200)
SCHEMA = (
    "window int, scorer string, user string, slices array<string>, requests int, "
    "`new:requests` int, `precision@10` double, `recall@10` double, "
    "`new:precision@10` double, `new:recall@10` double, top array<int>"
)


def metrics(spark: SparkSession, *rows: tuple) -> DataFrame:
    return spark.createDataFrame(list(rows), SCHEMA)


def row(scorer: str, user: str, value: float, *, requests: int = 1, window: int = 7) -> tuple:
    part = "heavy" if user < "m" else "light"
    return (window, scorer, user, [part], requests, 0, value, value / 2, 0.0, 0.0, [1, 2, 0])


def test_weights_are_poisson_paired_by_user_and_repeatable() -> None:
    users = np.arange(-2000, 2000, dtype=np.int64)
    drawn = weights(users, 50, seed=7)
    assert (drawn[:, 0] == 1).all()
    assert drawn[:, 1:].mean() == pytest.approx(1.0, abs=0.02)
    assert drawn[:, 1:].var() == pytest.approx(1.0, abs=0.03)
    assert (drawn[:, 1:] == 0).mean() == pytest.approx(np.exp(-1), abs=0.01)
    np.testing.assert_array_equal(drawn[10:20], weights(users[10:20], 50, seed=7))
    assert (drawn != weights(users, 50, seed=8)).any()
    columns = np.corrcoef(drawn[:, 1:].T)
    assert np.abs(columns - np.eye(50)).max() < 0.1


def test_means_are_per_request_and_f1_is_of_means(spark: SparkSession) -> None:
    found = replicates(
        metrics(spark, row("m", "a", 0.5), row("m", "z", 1.5, requests=3)), SETTINGS, seed=7
    )
    whole = found[7, "m", ALL]
    assert (whole.users, whole.new_users, whole.requests) == (2, 0, 4)
    assert whole.value("precision@10") == pytest.approx(0.5)
    assert whole.value("f1@10") == pytest.approx(2 * 0.5 * 0.25 / 0.75)
    assert np.isnan(whole.value("new:f1@10"))
    assert list(by_slice(found, 7, "m")) == [ALL, "heavy", "light"]
    assert found[7, "m", "light"].value("precision@10") == pytest.approx(0.5)
    plain = replicates(metrics(spark, row("m", "a", 0.5)), SETTINGS, seed=7, slices=False)
    assert list(plain) == [(7, "m", ALL)]


def test_same_users_get_same_weights_whichever_scorer_answers(spark: SparkSession) -> None:
    rng = np.random.default_rng(1)
    users = [(f"{n:x}", float(rng.random())) for n in range(40)]
    rows = [row("old", user, value) for user, value in users]
    rows = [*rows, *(row("new", user, value + 0.01) for user, value in reversed(users))]
    found = replicates(metrics(spark, *rows).repartition(2), SETTINGS, seed=7)
    new, old = (found[7, name, ALL].means["precision@10"] for name in ("new", "old"))
    gap = estimate(new - old, 0.95)
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.01, 0.01, 0.01))
    alone = estimate(old, 0.95)
    assert alone.low < alone.value < alone.high
    spread = np.std([value for _, value in users]) / np.sqrt(40)
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * spread, rel=0.35)


def test_reports_hold_every_scorer_of_every_window(spark: SparkSession) -> None:
    rows = [row(s, u, 0.5, window=w) for s in ("x", "y") for u in ("a", "z") for w in (7, 8)]
    found = reports(replicates(metrics(spark, *rows), SETTINGS, seed=7), SETTINGS)
    assert set(found) == {(7, "x"), (7, "y"), (8, "x"), (8, "y")}
    assert found[8, "y"].users == 2
    assert set(found[8, "y"].slices) == {"heavy", "light"}


def test_no_rows_give_no_replicates(spark: SparkSession) -> None:
    assert replicates(metrics(spark), SETTINGS, seed=7) == {}


def test_average_over_windows_is_unweighted_and_keeps_pairing() -> None:
    def part(window: int, values: list[float]) -> Replicates:
        means = {"precision@10": np.array(values), "recall@10": np.array(values)}
        return Replicates(window, "x", ALL, 10, 5, 10, means)

    found = across_windows([part(1, [0.2, 0.1]), part(2, [0.4, 0.5])])
    assert found.means["precision@10"] == pytest.approx([0.3, 0.3])
    assert found.means["f1@10"] == pytest.approx([0.3, 0.3])
    assert found.requests == 20


def test_a_window_in_which_nobody_asked_counts_in_no_average() -> None:
    def part(window: int, *values: float) -> Replicates:
        means = {f"new:{kind}@10": np.array(values) for kind in ("precision", "recall")}
        return Replicates(window, "x", ALL, 10, 5, 10, means)

    nan = float("nan")
    found = across_windows([part(1, 0.2, 0.1, nan), part(2, nan, nan, nan), part(3, 0.4, nan, nan)])
    for metric in ("new:precision@10", "new:recall@10", "new:f1@10"):
        assert found.means[metric] == pytest.approx([0.3, 0.1, nan], nan_ok=True), metric


def test_coverage_counts_distinct_items_in_the_best_k(spark: SparkSession) -> None:
    first, second = row("x", "a", 0.1), row("x", "b", 0.1)
    rows = metrics(spark, first, (*second[:-1], [2, 3, 4]))
    assert coverage(rows, items=10, k=2) == {(7, "x"): 0.3}
