from __future__ import annotations

import numpy as np
import pytest

from recsys_lib.model.shipped.rows import Rows
from recsys_lib.model.shipped.search import Scan, Search, Shelf, Whole

ITEMS, SIZE, KNOWN, USERS = 5000, 16, 4, 40
RANDOM = np.random.default_rng(5)
USER = RANDOM.normal(size=(USERS, SIZE)).astype(np.float32)
TASTE = np.ones((USERS, KNOWN), np.float32) + RANDOM.normal(0, 0.1, (USERS, KNOWN)).astype(
    np.float32
)


def shelf_of(items: int) -> Shelf:
    random = np.random.default_rng(1)
    vectors = random.normal(0, 0.5, (items + 1, SIZE)).astype(np.float32)
    known = random.normal(0, 0.3, (items + 1, KNOWN)).astype(np.float32)
    known[:, 0] = -np.log(random.permutation(items + 1) + 1.0)  # few are popular, most are not
    return Shelf(Rows.of(vectors, 8), known)


SHELF = shelf_of(ITEMS)
TYPICAL = np.ones(KNOWN, np.float32)


def found_by(search: Search, count: int) -> np.ndarray:
    items, scores = search.best(USER, TASTE, count)
    order = np.argsort(-scores, axis=1)[:, :count]
    return np.asarray(np.take_along_axis(items, order, 1))


def recall(search: Search, count: int) -> float:
    best = found_by(Whole(SHELF), count)
    pairs = zip(best, found_by(search, count), strict=True)
    return float(np.mean([len(np.intersect1d(*pair)) / count for pair in pairs]))


def test_the_scan_finds_nearly_all_of_the_best_and_more_when_more_are_ranked_again() -> None:
    found = [recall(Scan(SHELF, TYPICAL, rerank), 20) for rerank in (1, 5, 20)]
    assert found == sorted(found)
    assert found[0] < 0.95
    assert found[2] > 0.97


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_of_items_that_are_equally_good_the_first_are_found(count: int) -> None:
    # One is better than all others, two are worse; the other four are alike.
    known = np.array([[0], [1], [5], [1], [0], [1], [0], [1]], np.float32)
    shelf = Shelf(Rows.of(np.zeros((8, 2), np.float32), 32), known)
    users = np.zeros((2, 2), np.float32), np.ones((2, 1), np.float32)
    items, _ = Whole(shelf).best(*users, count)
    order = [2, 1, 3, 5, 7, 4, 6]
    assert [sorted(row) for row in items.tolist()] == [sorted(order[:count])] * 2


def test_what_is_found_has_its_exact_score() -> None:
    items, scores = Scan(SHELF, TYPICAL, 5).best(USER, TASTE, 20)
    vectors = SHELF.vectors.all()[items]
    exact = (vectors * USER[:, None]).sum(2) + (SHELF.known[items] * TASTE[:, None]).sum(2)
    np.testing.assert_allclose(scores, exact, rtol=1e-4, atol=1e-4)
    alone, same = Scan(SHELF, TYPICAL, 5).best(USER[:1], TASTE[:1], 20)
    np.testing.assert_array_equal(alone[0], items[0])
    np.testing.assert_allclose(same[0], scores[0], rtol=1e-4)


@pytest.mark.parametrize("bits", [8, 32])
def test_pairs_of_items_and_users_are_multiplied_as_their_vectors_are(bits: int) -> None:
    shelf = Shelf(Rows.of(SHELF.vectors.all(), bits), SHELF.known)
    items, row = np.array([4, 4, 9, 0, 17], np.int32), np.array([0, 1, 1, 3, 3])
    match, whole = shelf.matched(items, row, USER, TASTE)
    np.testing.assert_allclose(match, (shelf.vectors.take(items) * USER[row]).sum(1), rtol=1e-4)
    known = (shelf.known[items] * TASTE[row]).sum(1)
    np.testing.assert_allclose(whole - match, known, rtol=1e-3, atol=1e-5)


def test_the_total_of_a_sample_is_near_that_of_all() -> None:
    apart = Scan(SHELF, TYPICAL, 5).total(USER, TASTE) - Whole(SHELF).total(USER, TASTE)
    assert np.abs(apart).max() < 0.2
    assert np.abs(apart).mean() < 0.05


def test_the_total_of_a_small_shop_is_exact() -> None:
    shelf = shelf_of(1500)
    scan, whole = Scan(shelf, TYPICAL, 5), Whole(shelf)
    np.testing.assert_allclose(scan.total(USER, TASTE), whole.total(USER, TASTE), rtol=1e-4)


def test_more_than_there_is_brings_everything_once() -> None:
    shelf = shelf_of(50)
    for search in (Whole(shelf), Scan(shelf, TYPICAL, 20)):
        items, scores = search.best(USER, TASTE, 60)
        for row, score in zip(items, scores, strict=True):
            assert sorted(row[np.isfinite(score)].tolist()) == list(range(1, 51))


@pytest.mark.parametrize("kind", [Whole, lambda shelf: Scan(shelf, TYPICAL, 20)])
def test_items_that_come_later_are_found_and_the_others_stay(kind: object) -> None:
    small, large = shelf_of(400), shelf_of(400)
    vectors = np.concatenate([large.vectors.all(), USER[:1] * 3])
    more = Shelf(Rows.of(vectors, 8), np.concatenate([large.known, large.known[:1] * 0]))
    search = kind(small)  # type: ignore[operator]
    before = search.best(USER, TASTE, 10)[0].tolist()
    after = search.extended(more)
    assert 401 in after.best(USER[:1], TASTE[:1], 10)[0][0]
    assert search.best(USER, TASTE, 10)[0].tolist() == before
