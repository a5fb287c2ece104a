from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from recsys_lib.train.lesson import Lesson
from recsys_lib.train.pace import PLAIN, SHORT, heads_pace, highest_rate, kept_share, steps_of
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
    assert steps_of(lesson, examples=6400, targets=6400, whole=128, first=False) == 100
    alone = replace(lesson, rehearse=None)
    assert steps_of(alone, examples=6400, targets=6400, whole=128, first=False) == 50
    assert steps_of(alone, examples=6400, targets=6400, whole=128, first=True) == 100


def test_a_small_one_is_learned_for_as_many_steps_as_are_set(lesson: Lesson) -> None:
    assert steps_of(lesson, examples=10, targets=1000, whole=128, first=False) == 8
    assert steps_of(lesson, examples=800, targets=8000, whole=128, first=True) == 50


def test_few_examples_are_not_learned_by_heart_for_the_sake_of_steps(lesson: Lesson) -> None:
    train = lesson.train.model_copy(update={"min_steps_epochs": 4.0})
    lesson = replace(lesson, train=train)
    assert steps_of(lesson, examples=640, targets=6400, whole=128, first=True) == 20
    assert steps_of(lesson, examples=10, targets=1000, whole=128, first=True) == 8, (
        "as many as a fine-tune"
    )


def test_examples_with_few_targets_are_passed_over_less_often(lesson: Lesson) -> None:
    train = lesson.train.model_copy(update={"min_steps": 300, "min_steps_targets": 3.0})
    lesson = replace(lesson, train=train, rehearse=None)
    assert steps_of(lesson, examples=1280, targets=2560, whole=128, first=True) == 60
    assert steps_of(lesson, examples=1280, targets=5120, whole=128, first=True) == 120
    assert steps_of(lesson, examples=1280, targets=128_000, whole=128, first=True) == 300
    assert steps_of(lesson, examples=64_000, targets=1, whole=128, first=True) == 1000, "epochs"


@pytest.mark.parametrize(
    ("steps", "rate"), [(400, 0.001), (200, 0.001), (100, 0.002), (50, 0.004), (10, 0.005)]
)
def test_a_short_increment_moves_weights_as_far_as_a_longer_one(
    lesson: Lesson, steps: int, rate: float
) -> None:
    told = {"learning_rate": 0.005, "increment_learning_rate": 0.001, "increment_rate_steps": 200}
    lesson = replace(lesson, train=TRAIN.model_copy(update={**told, "batch_size": 64}))
    assert highest_rate(lesson, steps, 64, first=False) == pytest.approx(rate)
    assert highest_rate(lesson, steps, 64, first=True) == pytest.approx(0.005)
    # Twice the steps of half the examples are as long a lesson.
    assert highest_rate(lesson, 2 * steps, 32, first=False) == pytest.approx(rate / 2)
    told["increment_learning_rate"] = 0.01
    lesson = replace(lesson, train=TRAIN.model_copy(update={**told, "batch_size": 64}))
    assert highest_rate(lesson, steps, 64, first=False) >= 0.01, "what was set is never lowered"


@pytest.mark.parametrize(
    ("steps", "share"), [(400, 1.0), (200, 1.0), (160, 0.8), (100, 0.5), (10, 0.5)]
)
def test_the_faster_an_increment_learns_the_less_of_its_way_is_kept(
    lesson: Lesson, steps: int, share: float
) -> None:
    told = {"learning_rate": 0.005, "increment_learning_rate": 0.001, "increment_rate_steps": 200}
    train = TRAIN.model_copy(update={**told, "batch_size": 64, "increment_share": 0.5})
    lesson = replace(lesson, train=train)
    assert kept_share(lesson, steps, 64) == pytest.approx(share)
    assert kept_share(lesson, 2 * steps, 32) == pytest.approx(share)
    assert kept_share(replace(lesson, teacher="wide"), steps, 64) == 1


def test_heads_learn_faster_in_short_lessons_and_never_from_the_same_few_examples(
    lesson: Lesson,
) -> None:
    train = lesson.train.model_copy(update={"increment_rate_steps": 200})
    first = replace(lesson, train=train, rehearse=None)
    later = replace(first, parent="parent")

    def pace(lesson: Lesson, steps: int, examples: int, neurons: int = PLAIN) -> float:
        return heads_pace(lesson, steps, examples, 128, neurons)

    fastest = lesson.train.heads_rate
    assert pace(first, 100, 6400) == fastest
    assert pace(first, 101, 6400) == 1.0, "passed over more often than is set"
    assert pace(first, 101, 6400, 2 * PLAIN) == 0.5, "a wider head learns faster by itself"
    assert pace(first, 101, 6400, PLAIN // 2) == 1.0
    assert pace(later, 8, 10) == fastest, "a fine-tune knows more than its examples"
    half = math.isqrt(2 * SHORT * SHORT)
    assert pace(first, half, 128 * SHORT) == pytest.approx(fastest / 2, rel=0.01)
    assert pace(first, 100 * SHORT, 6400 * SHORT) == 1.0
    assert pace(later, 283, 6400) == pytest.approx(fastest / 2, rel=0.01), "a long fine-tune"
    assert pace(later, 2000, 64000, 2 * PLAIN) == 0.5
