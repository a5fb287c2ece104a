from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.model.histories import Histories
from recsys_lib.model.neighbours import FEATURES, RECENCY, Neighbours, merged
from recsys_lib.model.neighbours import near as found_near
from tests.model.tiny import histories_of

Pair = tuple[int, int, int, float]
"""(item, fold, other, weight)"""


def known(*pairs: Pair, items: int = 6, kept: int = 3) -> Neighbours:
    """Both directions of these pairs, two folds."""
    both = [*pairs, *((other, fold, item, weight) for item, fold, other, weight in pairs)]
    mass = np.zeros((2, items + 1))
    for item, fold, _, weight in both:
        mass[fold, item] += weight
    columns = [np.array(column) for column in zip(*both, strict=True)]
    return merged(*columns[:3], columns[3].astype(np.float64), mass, kept)


def nearby(
    histories: Histories, known: Neighbours, events: int, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    return found_near(histories, known, events, limit).padded(limit)


def test_the_heaviest_neighbours_come_first_and_ties_go_to_the_smaller_item() -> None:
    near = known((1, 0, 4, 2.0), (1, 0, 3, 2.0), (1, 1, 5, 7.0), (1, 0, 6, 1.0))
    assert near.items[0, 1].tolist() == [5, 3, 4]
    assert near.share[0, 1] == pytest.approx([7 / 12, 2 / 12, 2 / 12])


def test_a_view_leaves_out_what_one_fold_did() -> None:
    near = known((1, 0, 4, 2.0), (1, 1, 4, 3.0), (1, 1, 5, 1.0))
    assert near.items[:, 1].tolist() == [[4, 5, 0], [4, 5, 0], [4, 0, 0]]
    assert near.mass[:, 1].tolist() == [6.0, 4.0, 2.0]
    assert near.share[1, 1, 0] == pytest.approx(3 / 4)


def test_neighbours_of_the_latest_events_are_proposed_and_own_items_are_not() -> None:
    near = known((1, 0, 4, 2.0), (2, 0, 5, 1.0), (1, 0, 2, 5.0))
    items, features = nearby(histories_of([(1, 8.0), (2, 9.0)], [], [(6, 9.0)]), near, 8, 8)
    assert items.tolist() == [[4, 5], [0, 0], [0, 0]] or items.tolist() == [[5, 4], [0, 0], [0, 0]]
    assert features.shape == (3, 2, len(FEATURES))
    assert np.exp(features[0, :, 0]).sum() == pytest.approx(1.0, abs=1e-3)
    assert not features[1:].any()


def test_later_events_count_for_more() -> None:
    near = known((1, 0, 4, 1.0), (2, 0, 5, 1.0))
    for order, best in (([1, 2], 5), ([2, 1], 4)):
        history = histories_of([(item, 8.0 + n) for n, item in enumerate(order)])
        assert nearby(history, near, 8, 1)[0].tolist() == [[best]]


def test_only_the_latest_events_are_looked_at() -> None:
    near = known((1, 0, 4, 1.0), (2, 0, 5, 1.0))
    items, _ = nearby(histories_of([(1, 8.0), (2, 9.0)]), near, events=1, limit=8)
    assert items.tolist() == [[5]]


def test_a_user_who_is_learned_from_is_answered_without_the_own_fold() -> None:
    near = known((1, 0, 4, 1.0), (1, 1, 5, 1.0))
    learned = histories_of([(1, 8.0)], [(1, 8.0)], [(1, 8.0)])
    learned = replace(learned, fold=np.array([0, 1, 0], np.int8))
    assert nearby(learned, near, 8, 8)[0][:, 0].tolist() == [5, 4, 5]


def test_nothing_known_gives_nothing_near() -> None:
    items, features = nearby(histories_of([(1, 8.0)]), Neighbours.none(6), 8, 8)
    assert not items.any()
    assert not features.any()


@given(
    st.lists(
        st.tuples(
            st.integers(1, 6), st.integers(0, 1), st.integers(1, 6), st.floats(0.1, 9.0)
        ).filter(lambda pair: pair[0] != pair[2]),
        min_size=1,
        max_size=20,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_in_which_pairs_come_does_not_matter(pairs: list[Pair], random) -> None:  # type: ignore[no-untyped-def]
    mixed = list(pairs)
    random.shuffle(mixed)
    one, two = known(*pairs), known(*mixed)
    np.testing.assert_array_equal(one.items > 0, two.items > 0)
    np.testing.assert_allclose(one.share, two.share, rtol=1e-5)


@given(st.lists(st.lists(st.integers(1, 6), max_size=6), min_size=1, max_size=4))
def test_a_history_is_answered_alike_alone_and_among_others(rows: list[list[int]]) -> None:
    near = known((1, 0, 4, 2.0), (2, 1, 5, 1.0), (3, 0, 6, 3.0), (4, 1, 5, 1.5))
    every = histories_of(*([(item, 5.0 + n) for n, item in enumerate(row)] for row in rows))
    items, features = nearby(every, near, 8, 8)
    for b, row in enumerate(rows):
        alone = histories_of([(item, 5.0 + n) for n, item in enumerate(row)])
        own, known_of = nearby(alone, near, 8, 8)
        width = min(own.shape[1], items.shape[1])
        np.testing.assert_array_equal(items[b, :width], own[0, :width])
        np.testing.assert_allclose(features[b, :width], known_of[0, :width], rtol=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), max_size=9), min_size=1, max_size=4))
def test_features_of_what_is_near_equal_what_is_computed_by_hand(rows: list[list[int]]) -> None:
    near = known((1, 0, 4, 2.0), (2, 1, 5, 1.0), (3, 0, 6, 3.0), (4, 1, 5, 1.5), (1, 1, 5, 0.5))
    histories = histories_of(*([(item, 5.0 + n) for n, item in enumerate(row)] for row in rows))
    items, features = nearby(histories, near, 4, 8)
    for row, found, told in zip(rows, items, features, strict=True):
        seen: dict[int, list[tuple[float, float, float]]] = {}
        for back, source in enumerate(reversed(row[-4:])):
            for item, share in zip(near.items[0, source], near.share[0, source], strict=True):
                if item and item not in row:
                    cosine = share * np.sqrt(near.mass[0, source] / near.mass[0, item])
                    told_by = share * RECENCY**back, share, cosine
                    seen.setdefault(int(item), []).append(told_by)
        whole = sum(score for each in seen.values() for score, _, _ in each)
        assert sorted(item for item in found if item) == sorted(seen)
        for item, values in zip(found, told, strict=True):
            if item:
                score, share, cosine = (sum(v) for v in zip(*seen[item], strict=True))
                best = max(v[1] for v in seen[item])
                wanted = [score / whole, share, score, cosine, len(seen[item]), best]
                assert np.exp(values) == pytest.approx(wanted, rel=1e-4, abs=1e-5)
