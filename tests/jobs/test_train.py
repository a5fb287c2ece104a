from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.train import ranks_for
from tests.train.shop import TRAIN, Shop


@pytest.mark.parametrize(("rank_rows", "ranks"), [(1, 3), (20, 2), (39, 2), (40, 1), (4000, 1)])
def test_an_increment_is_learned_on_as_many_ranks_as_its_rows_are_worth(
    tmp_path: Path, rank_rows: int, ranks: int
) -> None:
    shop = Shop(tmp_path)
    shop.land(1, [[(1, 1.0), (2, 1.1)]] * 40, 2)
    lesson = shop.lesson((1, 1), str(tmp_path / "model"))
    train = TRAIN.model_copy(update={"ranks": 3, "rank_rows": rank_rows})
    assert ranks_for(replace(lesson, train=train)) == ranks
