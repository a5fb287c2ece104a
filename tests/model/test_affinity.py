from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys_lib.model.affinity import FEATURES, LITTLE, with_affinity
from recsys_lib.model.copies import COPY_FEATURES, Copies, copies
from recsys_lib.model.inputs import ages, inputs
from recsys_lib.model.neighbours import FEATURES as NEAR_FEATURES
from recsys_lib.model.neighbours import Nearby
from tests.model.tiny import Event, histories_of

DECAY = 0.9
BRAND = np.array([[0], [1], [1], [2], [0], [2], [1]], np.int32)
"""Of items 0 to 6: the fourth has none that is known."""
COUNT, NEARNESS = range(len(FEATURES))


def asked(
    *rows: list[Event], near: list[list[int]] | None = None, attributes: NDArray[np.int32] = BRAND
) -> tuple[Copies, Nearby]:
    """What is known of past items, and of those `near` to each user."""
    histories = histories_of(*rows)
    beside = near or [[] for _ in rows]
    lengths = np.cumsum([0, *(len(items) for items in beside)]).astype(np.int64)
    items = np.array([item for items in beside for item in items], np.int32)
    told = Nearby(lengths, items, np.zeros((len(NEAR_FEATURES), len(items)), np.float32))
    return with_affinity(copies(histories, ages(histories), 16, DECAY), told, attributes)


def of_near(*rows: list[Event], near: list[list[int]]) -> NDArray[np.float32]:
    return asked(*rows, near=near)[1].features[len(NEAR_FEATURES) :]


def test_an_item_is_told_how_much_of_its_brand_the_user_has_had_and_when() -> None:
    told = of_near([(1, 6.0), (2, 8.0), (3, 9.0)], near=[[6, 5]])
    assert np.exp(told[COUNT]) == pytest.approx([DECAY**4 + DECAY**2 + LITTLE, DECAY + LITTLE])
    assert told[NEARNESS] == pytest.approx([1 / 3, 1 / 2])


def test_a_past_item_counts_itself_but_is_told_when_another_of_its_brand_was_taken() -> None:
    own, _ = asked([(1, 6.0), (2, 8.0), (3, 9.0)])
    of = {int(i): f[len(COPY_FEATURES) :] for i, f in zip(own.items, own.features.T, strict=True)}
    assert math.exp(of[1][COUNT]) == pytest.approx(DECAY**4 + DECAY**2 + LITTLE)
    assert [float(of[item][NEARNESS]) for item in (1, 2, 3)] == pytest.approx([1 / 3, 1 / 5, 0.0])


def test_what_is_not_known_of_an_item_is_like_nothing() -> None:
    told = of_near([(4, 9.0), (0, 9.0)], near=[[4, 1]])
    assert np.exp(told[COUNT]) == pytest.approx([LITTLE, LITTLE])
    assert not told[NEARNESS].any()


def test_users_know_nothing_of_one_another() -> None:
    told = of_near([(1, 9.0)], [(3, 9.0)], [], near=[[2], [2], [2]])
    assert (told[NEARNESS] > 0).tolist() == [True, False, False]


def test_a_shop_without_attributes_has_no_such_features() -> None:
    histories = histories_of([(1, 6.0), (2, 8.0)])
    nothing = np.zeros((7, 0), np.int32)
    plain, told = (inputs(histories, 4, 4, DECAY, attributes=a) for a in (None, nothing))
    np.testing.assert_array_equal(plain.copy_features, told.copy_features)


events = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=12)


@settings(deadline=None)
@given(rows=st.lists(events, min_size=1, max_size=4), seed=st.integers(0, 9))
def test_affinity_is_what_a_plain_loop_over_events_finds(
    rows: list[list[tuple[int, int]]], seed: int
) -> None:
    attributes = np.random.default_rng(seed).integers(0, 3, (7, 2)).astype(np.int32)
    told = [[(item, float(at)) for item, at in sorted(row, key=lambda e: e[1])] for row in rows]
    near = [[i for i in range(1, 7) if i not in {item for item, _ in row}] for row in told]
    own, beside = asked(*told, near=near, attributes=attributes)
    for user, row in enumerate(told):
        for found, width in ((own, len(COPY_FEATURES)), (beside, len(NEAR_FEATURES))):
            for place in range(found.offsets[user], found.offsets[user + 1]):
                item, features = int(found.items[place]), found.features[width:, place]
                for a, value in enumerate(attributes[item]):
                    same = [(i, at) for i, at in row if i > 0 and attributes[i, a] == value > 0]
                    count = sum(DECAY ** (10.0 - at) for _, at in same)
                    nearness = max((1 / (11.0 - at) for i, at in same if i != item), default=0.0)
                    assert math.exp(features[2 * a]) == pytest.approx(count + LITTLE, abs=1e-4)
                    assert features[2 * a + 1] == pytest.approx(nearness, abs=1e-5)
