from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_lib.adapters.places import KeptFile
from recsys_lib.model.scorer import ModelScorer
from recsys_lib.settings import RanksSettings, Settings
from recsys_lib.train import loop
from recsys_lib.train.checkpoint import Standing, lesson_key, read_standing, write_standing
from recsys_lib.train.lesson import Lesson
from recsys_lib.train.pace import highest_rate
from tests.train.conftest import Learned, learn
from tests.train.shop import RING, Shop, hit_rate

OFTEN = RanksSettings(checkpoint_seconds=0.0)


class StoppedError(Exception):
    pass


def stopped_at(lesson: Lesson, last: int, kept: Path) -> list[tuple[int, int]]:
    """Learn until step `last`, as if killed there; the steps that were told."""
    told: list[tuple[int, int]] = []

    def tell(step: int, steps: int, loss: float | None = None) -> None:
        told.append((step, steps))
        if step == last:
            raise StoppedError

    with pytest.raises(StoppedError):
        loop.learn_increment(replace(lesson, tell=tell, kept=KeptFile(str(kept)), ranks=OFTEN))
    return told


@pytest.fixture(scope="module")
def returned(
    shop: Shop, first: Learned, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Learned, list[tuple[int, int]]]:
    """The first lesson, stopped in its middle and learned again to its end."""
    folder = tmp_path_factory.mktemp("returned")
    lesson = replace(first.lesson, folder=str(folder / "model"))
    stopped_at(lesson, 45, folder / "checkpoint")
    told: list[tuple[int, int]] = []

    def tell(step: int, steps: int, loss: float | None = None) -> None:
        told.append((step, steps))

    kept = KeptFile(str(folder / "checkpoint"))
    again = learn(replace(lesson, tell=tell, kept=kept, ranks=OFTEN))
    return again, told


def test_a_lesson_goes_on_from_its_checkpoint(
    first: Learned, returned: tuple[Learned, list[tuple[int, int]]]
) -> None:
    again, told = returned
    assert 40 <= again.summary["resumed"] <= 44
    assert told[0][0] == again.summary["resumed"] + 1
    assert told[-1] == (first.summary["steps"], first.summary["steps"])
    steps = [step for step, _ in again.summary["loss"]]
    assert steps == sorted(set(steps))
    assert steps[0] == 0


def test_it_ends_about_as_good_as_one_that_was_not_disturbed(
    first: Learned, returned: tuple[Learned, list[tuple[int, int]]]
) -> None:
    again, _ = returned
    hits, wanted = (hit_rate(ModelScorer(found.bundle), RING) for found in (again, first))
    assert hits > wanted - 0.1
    loss, whole = (np.mean([y for _, y in found.summary["loss"][-5:]]) for found in (again, first))
    assert loss < whole + 0.15 < first.summary["loss"][0][1]
    assert again.bundle.optimizer["step"] == again.summary["steps"]


def test_another_lesson_does_not_go_on_from_it(first: Learned, tmp_path: Path) -> None:
    kept, lesson = KeptFile(str(tmp_path / "kept")), first.lesson
    standing = Standing({"a/kernel": np.ones(2)}, {"a|m": np.zeros(2)}, 640, [(0, 2.5)])
    write_standing(kept, lesson_key(lesson), standing)
    found = read_standing(kept, lesson_key(replace(lesson, folder="elsewhere")))
    assert found is not None
    assert (found.seen, found.curve) == (640, [(0, 2.5)])
    assert found.weights["a/kernel"].tolist() == [1, 1]
    others: list[dict[str, Any]] = [{"seed": 8}, {"windows": (0, 1)}, {"lineage": {"tables": 4}}]
    for other in others:
        assert read_standing(kept, lesson_key(replace(lesson, **other))) is None


def test_fewer_ranks_make_the_same_lesson(first: Learned) -> None:
    fewer = first.lesson.train.model_copy(update={"ranks": 7})
    assert lesson_key(replace(first.lesson, train=fewer)) == lesson_key(first.lesson)


def test_settings_that_teach_nothing_leave_the_lesson_the_same(first: Learned) -> None:
    def key(**sets: dict[str, Any]) -> str:
        settings = Settings.model_validate(sets)
        told = {**first.lesson.lineage, "settings": settings.model_dump(mode="json")}
        taught = {"model": settings.model, "train": settings.train, "prune": settings.prune}
        return lesson_key(replace(first.lesson, lineage=told, **taught))

    begun = key()
    assert key(train={"ranks": 7, "rank_rows": 10}, ranks={"relaunches": 9}) == begun
    assert key(recommend={"k": 5}, spark={"driver_memory": "4g"}, gate={"min_users": 9}) == begun
    others = (
        {"model": {"embedding_size": 8}},
        {"train": {"learning_rate": 0.1}},
        {"prune": {"enabled": False}},
        {"features": {"neighbours": 7}},
        {"compress": {"heads": 1.0}},
    )
    assert begun not in [key(**other) for other in others]


def test_a_rank_that_may_hold_less_takes_shorter_and_more_steps(
    first: Learned, tmp_path: Path
) -> None:
    narrow = RanksSettings(max_batch=8)
    short = first.lesson.train.model_copy(update={"epochs": 0.5})
    lesson = replace(first.lesson, folder=str(tmp_path / "m"), train=short, ranks=narrow)
    assert learn(lesson).summary["steps"] == -(-360 // 2 // 8)
    assert highest_rate(lesson, 1, 8, first=True) == pytest.approx(short.learning_rate * 8 / 32)
