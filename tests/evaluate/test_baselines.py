from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.evaluate.baselines import PersonalFrequency, Popularity, RecencyFrequency
from recsys_lib.model.histories import Histories
from tests.evaluate.naive import histories_of

POPULARITY = np.array([99.0, 1.0, 5.0, 5.0, 0.0, 9.0])  # items 1..5


def best(scorer: Popularity, histories: Histories, k: int, exclude_seen: bool = False) -> list:
    return scorer.top_k(histories, k, exclude_seen=exclude_seen)[0].tolist()


def test_popularity_gives_everybody_the_same_list_and_ties_go_to_the_smaller_index() -> None:
    histories = histories_of([(4, 9.0)], [])
    assert best(Popularity(POPULARITY), histories, 5) == [[5, 2, 3, 1, 4], [5, 2, 3, 1, 4]]


def test_place_zero_of_popularity_is_never_ranked() -> None:
    items, _ = Popularity(POPULARITY).top_k(histories_of([]), 5)
    assert 0 not in items


def test_tail_is_item_zero_where_fewer_than_k_items_exist() -> None:
    items, scores = Popularity(POPULARITY).top_k(histories_of([]), 7)
    assert items[0, 5:].tolist() == [0, 0]
    assert np.isneginf(scores[0, 5:]).all()
    assert np.isfinite(scores[0, :5]).all()


def test_excluded_items_make_room_for_the_next_popular_ones() -> None:
    histories = histories_of([(5, 9.0), (2, 9.0), (5, 9.5)], [])
    assert best(Popularity(POPULARITY), histories, 3, True) == [[3, 1, 4], [5, 2, 3]]


def test_everything_seen_leaves_an_empty_slate() -> None:
    histories = histories_of([(item, 9.0) for item in range(1, 6)])
    assert best(PersonalFrequency(POPULARITY), histories, 2, True) == [[0, 0]]


def test_personal_frequency_counts_and_fills_with_popularity() -> None:
    histories = histories_of([(4, 1.0), (1, 2.0), (4, 3.0)], [])
    assert best(PersonalFrequency(POPULARITY), histories, 4) == [[4, 1, 5, 2], [5, 2, 3, 1]]


def test_equal_personal_counts_are_ordered_by_popularity() -> None:
    histories = histories_of([(1, 1.0), (4, 1.0), (3, 1.0)])
    assert best(PersonalFrequency(POPULARITY), histories, 3) == [[3, 1, 4]]


def test_recent_visits_outweigh_older_ones() -> None:
    histories = histories_of([(1, 1.0), (4, 9.2)])
    items, scores = RecencyFrequency(0 * POPULARITY, decay=0.5).top_k(histories, 2)
    assert items.tolist() == [[4, 1]]
    assert scores[0] == pytest.approx([0.5, 0.5**9], abs=1e-3)


def test_popular_items_outrank_what_was_taken_long_ago() -> None:
    histories = histories_of([(1, 1.0), (4, 9.0)])
    assert best(RecencyFrequency(POPULARITY, decay=0.5), histories, 3) == [[5, 2, 3]]


def test_repeats_inside_one_visit_count_once() -> None:
    histories = histories_of([(1, 9.25), (1, 9.25), (1, 9.25), (4, 9.1), (4, 9.6)])
    items, scores = RecencyFrequency(0 * POPULARITY, decay=0.5).top_k(histories, 2)
    assert items.tolist() == [[4, 1]]
    assert scores[0] == pytest.approx([1.0, 0.5], abs=1e-3)


def test_unknown_times_and_items_are_survived() -> None:
    histories = histories_of([(0, 9.0), (77, 9.0), (3, float("nan"))], now=float("nan"))
    assert best(RecencyFrequency(POPULARITY), histories, 2) == [[3, 5]]


def test_no_history_at_all_gives_an_empty_answer() -> None:
    items, scores = RecencyFrequency(POPULARITY).top_k(histories_of(), 3)
    assert items.shape == scores.shape == (0, 3)


EVENTS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 9).map(float)), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=4), st.integers(1, 9), st.booleans())
def test_sparse_ranking_equals_scoring_every_item(
    rows: list[list[tuple[int, float]]], k: int, exclude_seen: bool
) -> None:
    scorer = PersonalFrequency(POPULARITY)
    items, scores = scorer.top_k(histories_of(*rows), k, exclude_seen=exclude_seen)
    for place, row in enumerate(rows):
        dense = scorer.share.copy()
        dense[0] = -np.inf
        for item, _ in row:
            if 0 < item <= 5:
                dense[item] = -np.inf if exclude_seen else dense[item] + 1
        wanted = sorted(range(1, 6), key=lambda i: (-np.float32(dense[i]), i))
        expected = [item for item in wanted if np.isfinite(dense[item])][:k]
        assert items[place].tolist() == expected + [0] * (k - len(expected))
        assert np.isfinite(scores[place]).sum() == len(expected)
