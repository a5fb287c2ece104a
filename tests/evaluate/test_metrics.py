from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.evaluate.metrics import distinct, f1_of_means, metric_names, ranking_metrics
from tests.evaluate.naive import naive, targets_of

ITEMS = st.integers(0, 12)
ROWS = st.lists(
    st.tuples(st.lists(ITEMS, min_size=6, max_size=6), st.lists(ITEMS, max_size=9)),
    min_size=1,
    max_size=5,
)


def ranked_of(rows: list[tuple[list[int], list[int]]]) -> np.ndarray:
    return np.array([ranked for ranked, _ in rows], dtype=np.int32)


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_every_metric_equals_the_textbook(rows: list[tuple[list[int], list[int]]]) -> None:
    found = ranking_metrics(ranked_of(rows), targets_of(*(goals for _, goals in rows)), (1, 3, 6))
    assert list(found) == metric_names((1, 3, 6))
    for place, (ranked, goals) in enumerate(rows):
        for k in (1, 3, 6):
            for name, value in naive(ranked, goals, k).items():
                assert found[name][place] == pytest.approx(value), name


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_every_metric_is_between_nought_and_one(rows: list[tuple[list[int], list[int]]]) -> None:
    found = ranking_metrics(ranked_of(rows), targets_of(*(goals for _, goals in rows)), (3, 6))
    for values in found.values():
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()


@settings(max_examples=100, deadline=None)
@given(ROWS, st.randoms())
def test_order_and_repeats_of_targets_do_not_matter(
    rows: list[tuple[list[int], list[int]]], random: object
) -> None:
    shuffled = [sorted(goals * 2, key=lambda _: random.random()) for _, goals in rows]  # type: ignore[attr-defined]
    first = ranking_metrics(ranked_of(rows), targets_of(*(goals for _, goals in rows)), (3,))
    second = ranking_metrics(ranked_of(rows), targets_of(*shuffled), (3,))
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_order_of_requests_does_not_matter(rows: list[tuple[list[int], list[int]]]) -> None:
    first = ranking_metrics(ranked_of(rows), targets_of(*(goals for _, goals in rows)), (3,))
    back = rows[::-1]
    second = ranking_metrics(ranked_of(back), targets_of(*(goals for _, goals in back)), (3,))
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name][::-1])


def test_order_within_the_best_k_changes_only_ndcg_and_mrr() -> None:
    goals = targets_of([5, 7])
    first = ranking_metrics(np.array([[5, 1, 2]], dtype=np.int32), goals, (3,))
    second = ranking_metrics(np.array([[1, 2, 5]], dtype=np.int32), goals, (3,))
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"ndcg@3", "mrr@3"}


def test_perfect_ranking_reaches_one_even_with_fewer_targets_than_places() -> None:
    found = ranking_metrics(np.array([[4, 2, 9]], dtype=np.int32), targets_of([2, 4]), (3,))
    assert found["ndcg@3"] == 1
    assert found["recall@3"] == 1
    assert found["precision@3"] == 2 / 3


def test_item_zero_is_never_a_hit() -> None:
    found = ranking_metrics(np.array([[0, 0]], dtype=np.int32), targets_of([0, 3]), (2,))
    assert all(values == 0 for values in found.values())


def test_no_request_gives_empty_metrics() -> None:
    found = ranking_metrics(np.zeros((0, 3), dtype=np.int32), targets_of(), (3,))
    assert {len(values) for values in found.values()} == {0}


def test_targets_become_sets_without_item_zero() -> None:
    goals = distinct(targets_of([3, 0, 1, 3], [], [2]))
    assert goals.items.tolist() == [1, 3, 2]
    assert goals.offsets.tolist() == [0, 2, 2, 3]


def test_headline_f1_is_of_mean_precision_and_mean_recall() -> None:
    means = {
        "precision@10": np.array([0.2227]),
        "recall@10": np.array([0.1516]),
        "new:precision@10": np.array([0.0]),
        "new:recall@10": np.array([0.0]),
    }
    found = f1_of_means(means)
    assert found["f1@10"][0] == pytest.approx(0.1804, abs=1e-4)
    assert found["new:f1@10"][0] == 0
