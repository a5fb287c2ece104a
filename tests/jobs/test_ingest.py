"""What is decided on a window is decided for good, so it must have landed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import jobs.train
from jobs.evaluate import evaluate
from jobs.train import train
from recsys_lib.adapters.lake import Lake
from recsys_lib.errors import SourceError
from recsys_lib.tables import FEATURES
from recsys_lib.types import Increment


@pytest.fixture
def context(lake: Lake, tmp_path: Path) -> Any:
    """A run that has landed as far as window 3, and has learned nothing."""
    lake.ledger.write(Increment("silver", 0, 1), FEATURES, "read", window=3)
    unlearned = SimpleNamespace(version_for=lambda window: None)
    return SimpleNamespace(
        lake=lake,
        out=tmp_path / "out",
        tracking=unlearned,
        settings=SimpleNamespace(compress=None),
    )


@pytest.mark.parametrize("decide", [evaluate, train])
def test_a_window_that_is_still_to_come_is_refused_and_leaves_no_trace(
    context: Any, decide: Callable[[Any, int], object]
) -> None:
    with pytest.raises(SourceError, match="window 4 must have landed; the last one is 3"):
        decide(context, 4)
    assert not context.out.exists()


def test_a_lesson_that_fails_keeps_no_row(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = context.lake
    lake.append_once("sequences", lake.spark.range(3), app="a", version=0)
    lesson = SimpleNamespace(lineage={"tables": {"sequences": 0}})

    def failing(*_: object) -> None:
        assert lake.pins.held("sequences"), "rows are held while they are learned"
        raise RuntimeError("no rank is left")

    monkeypatch.setattr(jobs.train, "_lesson", lambda *_: lesson)
    monkeypatch.setattr(jobs.train, "learn_and_ship", failing)
    with pytest.raises(RuntimeError, match="no rank"):
        train(context, 3)
    assert not lake.pins.held("sequences")
