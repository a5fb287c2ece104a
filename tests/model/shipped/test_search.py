from __future__ import annotations

import numpy as np
import pytest

from recsys_lib.model.compiled import best_of
from recsys_lib.model.shipped.rows import Rows
from recsys_lib.model.shipped.search import Search, Shelf

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


def search_of(shelf: Shelf, summed: int = 10**9) -> Search:
    return Search(shelf, TYPICAL[: shelf.known.shape[1]], summed)


def scores_of(shelf: Shelf, user: np.ndarray = USER, taste: np.ndarray = TASTE) -> np.ndarray:
    """Of all items: [B, N]."""
    matrix = shelf.matrix(np.arange(1, shelf.items + 1)).astype(np.float64)
    return np.asarray(np.concatenate([user, taste], 1).astype(np.float64) @ matrix.T)


def best(
    search: Search, count: int, user: np.ndarray = USER, taste: np.ndarray = TASTE
) -> tuple[np.ndarray, np.ndarray]:
    """For users who have had nothing."""
    nothing = np.zeros(len(user) + 1, np.int64), np.zeros(0, np.int32)
    part = (*nothing, np.zeros(0, np.float32), np.zeros(0, np.float32))
    gate = np.zeros((len(user), 3), np.float32)
    asked = user, taste, search.bounds(user, taste)
    return best_of((part, part), gate, nothing, 0, search.cells, asked, count)


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize("count", [1, 20, 300])
def test_the_best_of_all_items_are_found_with_their_scores(bits: int, count: int) -> None:
    shelf = Shelf(Rows.of(SHELF.vectors.all(), bits), SHELF.known)
    items, scores = best(search_of(shelf), count)
    wanted = np.sort(scores_of(shelf), axis=1)[:, ::-1][:, :count]
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4)
    told = np.take_along_axis(scores_of(shelf), items.astype(np.int64) - 1, 1)
    np.testing.assert_allclose(scores, told, rtol=1e-4, atol=1e-4)


def test_no_item_of_a_cell_exceeds_its_bound_and_most_cells_need_not_be_opened() -> None:
    search = search_of(SHELF)
    cuts, items, *_ = search.cells
    assert sorted(items.tolist()) == list(range(1, ITEMS + 1))
    user = USER / 4
    scores, bounds = scores_of(SHELF, user)[:, items - 1], search.bounds(user, TASTE)
    assert (np.maximum.reduceat(scores, cuts[:-1], axis=1) <= bounds).all()
    twentieth = np.sort(scores, axis=1)[:, -20]
    assert (bounds >= twentieth[:, None]).mean() < 0.5


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_of_items_that_are_equally_good_the_first_are_found(count: int) -> None:
    # One is better than all others, two are worse; the other four are alike.
    known = np.array([[0], [1], [5], [1], [0], [1], [0], [1]], np.float32)
    shelf = Shelf(Rows.of(np.zeros((8, 2), np.float32), 32), known)
    users = np.zeros((2, 2), np.float32), np.ones((2, 1), np.float32)
    items, _ = best(search_of(shelf), count, *users)
    assert items.tolist() == [[2, 1, 3, 5, 7, 4, 6][:count]] * 2


def test_of_many_items_that_are_equally_good_the_first_are_found() -> None:
    shelf = Shelf(Rows.of(np.zeros((200, 2), np.float32), 8), np.ones((200, 1), np.float32))
    items, _ = best(search_of(shelf), 4, np.zeros((1, 2), np.float32), np.ones((1, 1), np.float32))
    assert items.tolist() == [[1, 2, 3, 4]]


def test_the_total_of_a_sample_is_near_that_of_all() -> None:
    exact = np.log(np.exp(scores_of(SHELF)).sum(1))
    apart = search_of(SHELF, summed=ITEMS - 1).total(USER, TASTE) - exact
    assert np.abs(apart).max() < 0.2
    assert np.abs(apart).mean() < 0.05


@pytest.mark.parametrize("summed", [ITEMS, 0], ids=["few enough", "fewer than the sample"])
def test_the_total_of_a_small_shop_is_exact(summed: int) -> None:
    shelf = SHELF if summed else shelf_of(1500)
    exact = np.log(np.exp(scores_of(shelf)).sum(1))
    np.testing.assert_allclose(search_of(shelf, summed).total(USER, TASTE), exact, rtol=1e-4)


def test_more_than_there_is_brings_everything_once() -> None:
    items, scores = best(search_of(shelf_of(50)), 60)
    for row, score in zip(items, scores, strict=True):
        assert sorted(row[np.isfinite(score)].tolist()) == list(range(1, 51))


def with_one_more(shelf: Shelf) -> Shelf:
    """That the first user likes best."""
    vectors = np.concatenate([shelf.vectors.all(), USER[:1] * 3])
    return Shelf(Rows.of(vectors, 8), np.concatenate([shelf.known, shelf.known[:1] * 0]))


def test_items_that_come_later_are_found_and_the_others_stay() -> None:
    search = search_of(shelf_of(400), summed=0)
    before = best(search, 10)[0].tolist()
    after = search.extended(with_one_more(shelf_of(400)))
    assert 401 in best(after, 10)[0][0]
    assert best(search, 10)[0].tolist() == before
    np.testing.assert_array_equal(search.total(USER, TASTE), after.total(USER, TASTE))


def test_a_total_that_is_exact_stays_so_when_items_come() -> None:
    more = with_one_more(shelf_of(400))
    exact = np.log(np.exp(scores_of(more)).sum(1))
    found = search_of(shelf_of(400)).extended(more).total(USER, TASTE)
    np.testing.assert_allclose(found, exact, rtol=1e-4)
