"""Slates for everybody in the lake: asked when the model has learned to be asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from jobs.recommend import _Everybody
from recsys_lib.model.histories import Histories
from recsys_lib.recommend.histories import Asking, Clock
from recsys_lib.recommend.slates import Opened
from tests.model.tiny import catalog_of, sequences_of


@dataclass
class Opening:
    """A model of this task that answers nothing and remembers when it was asked."""

    task: str
    asked: list[float] = field(default_factory=list)

    def __call__(self) -> Opened:
        scorer: Any = self
        return scorer, Asking(catalog_of(5), Clock.of({}), self.task, 7, ("buy",))

    def top_k(self, histories: Histories, k: int, *, exclude_seen: bool) -> tuple[Any, Any]:
        self.asked += histories.now.tolist()
        shape = len(histories), k
        return np.zeros(shape, np.int32), np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("task", "moments"), [("next_window", [8.0, 8.0]), ("next_item", [4.5, 7.25])]
)
def test_a_window_model_is_asked_for_the_next_window_and_a_session_model_at_each_last_event(
    task: str, moments: list[float]
) -> None:
    opening = Opening(task)
    everybody = _Everybody(opening, 2, False, version=1, window=7)
    rows = sequences_of([(1, 3.0), (2, 4.5)], [(3, 7.25)]).drop_columns(["known"])
    answers = list(everybody.score(rows.to_batches()))
    assert opening.asked == moments
    assert [row["user"] for row in answers[0].to_pylist()] == ["u0", "u1"]
