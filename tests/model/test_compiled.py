from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.model.compiled import best_first, compiled, slot_of, slots_for

ITEMS = st.integers(0, 2**31 - 1)
# Scores that often tie, and some that differ in the last bit.
SCORES = st.sampled_from([0.0, 1e-30, 0.5, 1.0, float(np.nextafter(np.float32(1), 2)), 3e8])


def table_of(keys: list[int]) -> tuple[np.ndarray, np.ndarray]:
    slots, held = slots_for(len(keys)), np.array(keys, np.int32)
    for place, key in enumerate(keys):
        slots[slot_of(slots, held, key)] = place
    return slots, held


@settings(max_examples=100, deadline=None)
@given(st.lists(ITEMS, unique=True, max_size=300), st.lists(ITEMS, max_size=20))
def test_a_key_is_found_where_it_was_put_and_a_strange_one_is_not(
    keys: list[int], others: list[int]
) -> None:
    slots, held = table_of(keys)
    assert [slots[slot_of(slots, held, key)] for key in keys] == list(range(len(keys)))
    strange = [key for key in others if key not in keys]
    assert all(slots[slot_of(slots, held, key)] == -1 for key in strange)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(ITEMS, SCORES, max_size=50))
def test_the_best_come_first_and_of_equals_the_smaller(scores: dict[int, float]) -> None:
    slots, keys = table_of(list(scores))
    found = best_first(np.array(list(scores.values()), np.float32), keys, slots)
    wanted = sorted(scores, key=lambda key: (-scores[key], key))
    assert keys[found].tolist() == wanted


def test_a_loop_is_compiled_where_nothing_can_be_kept() -> None:
    made: dict[str, object] = {}
    # Without a file there is no place beside it.
    exec("def twice(n):\n    return 2 * n", made)
    assert compiled(made["twice"])(21) == 42  # type: ignore[type-var, operator]
