from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_lib.model.histories import Histories
from recsys_lib.recommend.shelf import offered
from tests.model.tiny import histories_of

ITEMS = 12
GONE = {1, 2, 3, 4, 6}


class Ranking:
    """Item 1 is best, then 2, and so on; the second user may only have the first five."""

    name = "ranking"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def top_k(self, histories: Histories, k: int, *, exclude_seen: bool = False) -> tuple[Any, Any]:
        self.asked.append(k)
        every = np.pad(np.arange(1, ITEMS + 1, dtype=np.int32), (0, max(0, k - ITEMS)))[:k]
        items = np.stack([every, np.where(every <= 5, every, 0)])
        return items, np.where(items > 0, -items, -np.inf).astype(np.float32)


def gone(items: set[int]) -> np.ndarray:
    return np.isin(np.arange(ITEMS + 1), [*items])


@pytest.mark.parametrize("k", [1, 2, 3, 7, ITEMS, ITEMS + 2])
@pytest.mark.parametrize("without", [set(), {2}, GONE, {1, 2, 3, 4, 5}])
def test_a_slate_is_the_best_of_what_can_be_had_and_never_shorter_than_it_must_be(
    k: int, without: set[int]
) -> None:
    items, scores = offered(Ranking(), histories_of([], []), k, gone(without))
    assert items.shape == scores.shape == (2, k)
    for row, most in ((0, ITEMS), (1, 5)):
        best = [item for item in range(1, most + 1) if item not in without][:k]
        assert [item for item in items[row].tolist() if item] == best
        assert scores[row].tolist() == [-float(i) if i else -np.inf for i in items[row]]


def test_where_all_can_be_had_the_model_is_asked_for_no_more_than_the_slate() -> None:
    scorer = Ranking()
    offered(scorer, histories_of([], []), 3, gone(set()))
    assert scorer.asked == [3]
