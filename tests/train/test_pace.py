from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from recsys_lib.train.lesson import Lesson
from recsys_lib.train.pace import steps_of
from tests.train.shop import TRAIN, Shop


@pytest.fixture
def lesson(tmp_path: Path) -> Lesson:
    train = {"epochs": 2.0, "min_steps": 50, "increment_epochs": 1.0, "increment_steps": 8}
    shop = Shop(tmp_path)
    shop.land(1, [[(1, 1.0), (2, 1.1)]], 2)
    made = shop.lesson((1, 1), tmp_path / "model")
    return replace(made, train=TRAIN.model_copy(update=train), rehearse=(0, 0))


def test_a_large_increment_is_passed_over_as_often_as_is_set(lesson: Lesson) -> None:
    # One old example is rehearsed for each new one.
    assert steps_of(lesson, examples=6400, whole=128, first=False) == 100
    alone = replace(lesson, rehearse=None)
    assert steps_of(alone, examples=6400, whole=128, first=False) == 50
    assert steps_of(alone, examples=6400, whole=128, first=True) == 100


def test_a_small_one_is_learned_for_as_many_steps_as_are_set(lesson: Lesson) -> None:
    assert steps_of(lesson, examples=10, whole=128, first=False) == 8
    assert steps_of(lesson, examples=10, whole=128, first=True) == 50
