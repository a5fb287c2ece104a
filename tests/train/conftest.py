"""Lessons in this process, each learned once for all tests that look at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from recsys_lib.model.bundle import Bundle
from recsys_lib.settings import PruneSettings
from recsys_lib.train import loop
from recsys_lib.train.lesson import Lesson
from tests.train.shop import Shop, ring_shop

PRUNE = PruneSettings(final_sparsity=0.6, step=0.6, frequency=1)


@dataclass(frozen=True)
class Learned:
    """A lesson with what came of it."""

    lesson: Lesson
    summary: dict[str, Any]

    @property
    def bundle(self) -> Bundle:
        return Bundle.load(self.lesson.folder)


def learn(lesson: Lesson) -> Learned:
    return Learned(lesson, loop.learn_increment(lesson))


@pytest.fixture(scope="session", autouse=True)
def threads() -> Iterator[None]:
    """TensorFlow takes thread settings only before its first operation; that is long past."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_use_own_device", lambda threads: None)
        yield


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return ring_shop(tmp_path_factory.mktemp("ring"))


@pytest.fixture(scope="session")
def first(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    """The first model: windows 0..2."""
    return learn(shop.lesson((0, 2), tmp_path_factory.mktemp("models") / "first"))


@pytest.fixture(scope="session")
def second(shop: Shop, first: Learned) -> Learned:
    """Window 3 with two new items, pruned, with rehearsal."""
    folder = Path(first.lesson.folder).with_name("second")
    lesson = shop.lesson((3, 3), folder, parent=first.lesson.folder, rehearse=(0, 2), prune=PRUNE)
    return learn(lesson)


@pytest.fixture(scope="session")
def third(second: Learned) -> Learned:
    """The same window once more, from the pruned model."""
    folder = str(Path(second.lesson.folder).with_name("third"))
    return learn(replace(second.lesson, folder=folder, parent=second.lesson.folder))
