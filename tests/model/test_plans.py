from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.model.plans import Plans
from tests.model.tiny import histories_of

ITEMS = 4
TOLD = st.dictionaries(
    st.tuples(st.integers(0, 12) | st.sampled_from([-1, 66, 71, 134]), st.integers(1, ITEMS + 1)),
    st.sampled_from([0.0, 0.5, 3.0]),
)
EVENTS = st.lists(
    st.tuples(
        st.integers(0, ITEMS + 2),
        st.sampled_from([-65.0, -1.0, 0.0, 2.5, 6.99, 7.0, 12.5, 66.5, 71.0, 130.0, float("nan")]),
    ),
    max_size=8,
)


def plans_of(told: dict[tuple[int, int], float], items: int = ITEMS) -> Plans:
    window, index = np.array([*told], np.int64).reshape(-1, 2).T
    return Plans.of(window, index, np.array([*told.values()], np.float32), items)


@settings(max_examples=200, deadline=None)
@given(TOLD, EVENTS, st.randoms())
def test_an_event_is_told_the_plan_of_its_item_in_its_own_window(
    told: dict[tuple[int, int], float], events: list[tuple[int, float]], random: object
) -> None:
    mixed = [*told.items()]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    plans = plans_of(dict(mixed))
    found = plans.when_taken(histories_of(events))
    expected = [
        told.get((int(np.floor(at)), item), 0.0) if at == at and item <= ITEMS else 0.0
        for item, at in events
    ]
    assert found.tolist() == expected


def test_items_that_came_since_had_no_plans() -> None:
    plans = plans_of({(3, 1): 1.0, (3, ITEMS): 2.0}).extended(2)
    taken = histories_of([(item, 3.5) for item in (1, ITEMS, ITEMS + 1, ITEMS + 2)])
    assert plans.when_taken(taken).tolist() == [1.0, 2.0, 0.0, 0.0]
    assert plans.item.tolist() == [1, ITEMS]
