from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from recsys_lib.model.frozen import FrozenScorer
from recsys_lib.model.scorer import ModelScorer
from tests.model.tiny import catalog_of, histories_of, learned_bundle, untraced

BUNDLE = learned_bundle(catalog_of(buyers={1: 2.0, 3: 5.0}))  # learned windows up to 9


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    with untraced():
        yield


def test_a_shipped_model_knows_nothing_that_users_did_after_its_day() -> None:
    then = histories_of([(1, 8.0)], [], [(2, 9.0), (3, 9.5)], now=10.0)
    now = histories_of(
        [(1, 8.0), (4, 10.0)], [(5, 11.5)], [(2, 9.0), (3, 9.5), (3, 11.0)], now=12.0
    )
    then = replace(then, values=np.array([1, 3, 4], np.float32))
    now = replace(now, values=np.array([1, 2, 9, 3, 4, 9], np.float32))
    frozen = FrozenScorer(ModelScorer(BUNDLE), "stale").top_k(now, 5)
    expected = ModelScorer(BUNDLE).top_k(then, 5)
    np.testing.assert_array_equal(frozen[0], expected[0])
    np.testing.assert_array_equal(frozen[1], expected[1])


def test_a_shipped_session_model_reads_each_session_as_it_comes() -> None:
    sessions = replace(BUNDLE, task="next_item")
    histories = histories_of([(1, 11.0), (4, 11.5)], now=11.5)
    frozen = FrozenScorer(ModelScorer(sessions), "stale").top_k(histories, 5)
    np.testing.assert_array_equal(frozen[1], ModelScorer(sessions).top_k(histories, 5)[1])


def test_the_exam_itself_is_left_as_it_was() -> None:
    histories = histories_of([(1, 8.0), (4, 11.0)], now=12.0)
    before = deepcopy(histories)
    FrozenScorer(ModelScorer(BUNDLE), "stale").top_k(histories, 5)
    for name, value in vars(histories).items():
        np.testing.assert_array_equal(value, getattr(before, name))
