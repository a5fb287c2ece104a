"""A fine-tune stops when later decisions get no better, and keeps the weights that were best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys_lib.train.lesson import Lesson
from recsys_lib.train.validation import Validation
from tests.train.conftest import learn
from tests.train.shop import TRAIN, Shop


def watched(losses: list[float], patience: int = 2, every: int = 1, since: int = 0) -> Validation:
    """Of a run whose losses are known; its weights are the number of the look."""
    looks = iter(range(len(losses)))
    now = {"look": -1}

    def loss(batch: object) -> float:
        now["look"] = next(looks)
        return losses[now["look"]]

    return Validation(
        batches=[{}],
        loss=loss,
        mean=lambda total, count: total / count,
        weights=lambda: {"w": np.array([now["look"]])},
        every=every,
        since=since,
        patience=patience,
    )


def steps_of(watch: Validation, most: int = 100) -> int:
    return next((step for step in range(most) if watch.is_enough(step)), most)


def test_it_is_enough_after_so_many_looks_without_a_better_loss() -> None:
    watch = watched([3.0, 2.0, 1.0, 1.5, 1.2, 9.0])
    assert steps_of(watch) == 4
    assert watch.best is not None
    assert watch.best["w"].tolist() == [2]


def test_it_goes_on_while_it_gets_better() -> None:
    assert steps_of(watched([5.0, 4.0, 3.0, 2.0]), most=4) == 4


def test_looks_are_apart_and_begin_when_they_may() -> None:
    watch = watched([1.0, 2.0, 3.0], every=5, since=10)
    assert steps_of(watch) == 20
    assert [step for step, _ in watch.curve] == [10, 15, 20]


def lesson_with(shop: Shop, folder: Path, **changes: float) -> Lesson:
    return shop.lesson((0, 2), folder, train=TRAIN.model_copy(update=changes))


def test_a_lesson_with_a_cut_in_time_learns_nothing_after_it_and_says_what_it_saw(
    shop: Shop, tmp_path: Path
) -> None:
    found = learn(lesson_with(shop, tmp_path / "m", validation_windows=1.0, patience=2)).summary
    assert found["examples"] == 2 * 40 * 3
    curve = found["validation"]
    assert min(loss for _, loss in curve) < 0.5 * curve[0][1]
    assert found["stopped"] <= found["steps"]


def test_a_cut_that_would_leave_nothing_to_learn_is_not_made(shop: Shop, tmp_path: Path) -> None:
    found = learn(lesson_with(shop, tmp_path / "m", validation_windows=9.0, epochs=0.5)).summary
    assert found["examples"] == 3 * 40 * 3
    assert found["validation"] == []


@pytest.mark.parametrize("patience", [1, 3])
def test_the_same_losses_stop_every_rank_at_the_same_step(patience: int) -> None:
    losses = [2.0, 1.0, 1.1, 1.2, 1.3, 1.4]
    first, second = watched(losses, patience), watched(losses, patience)
    assert steps_of(first) == steps_of(second) == 1 + patience
