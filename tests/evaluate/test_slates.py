"""What a slate is like: surprising, varied, true to its user."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys_lib.evaluate.slates import Shelf
from recsys_lib.model.histories import Histories

# Items 1 and 2 are of category 1, item 3 of category 2, item 4 of none.
SHELF = Shelf(np.array([0.0, 8.0, 4.0, 1.0, 0.0]), np.array([0, 1, 1, 2, 0], np.int32))


def histories(*rows: list[int]) -> Histories:
    items = np.concatenate([np.array(row, np.int32) for row in rows]) if rows else np.zeros(0)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    zeros = np.zeros(len(items), np.int32)
    return Histories(
        offsets,
        items.astype(np.int32),
        zeros,
        zeros.astype(np.float32),
        np.zeros(len(rows), np.float32),
        np.zeros((len(rows), 0), np.int32),
    )


def measured(past: list[int], slate: list[int], k: int) -> dict[str, float]:
    found = SHELF.measures(histories(past), np.array([slate], np.int32), (k,))
    return {name: float(values[0]) for name, values in found.items()}


def test_rare_items_are_novel() -> None:
    found = measured([1], [1, 2], 2)
    assert found["novelty@2"] == (0.0 + 1.0) / 2
    assert measured([1], [4, 0], 2)["novelty@2"] == 4.0  # half a user of eight, one place filled


def test_a_slate_of_one_category_has_no_diversity_and_of_two_has_all() -> None:
    assert measured([1], [1, 2], 2)["diversity@2"] == 0.0
    assert measured([1], [1, 3], 2)["diversity@2"] == 1.0


def test_a_slate_with_the_mix_of_the_past_is_calibrated_and_a_disjoint_one_is_not() -> None:
    assert measured([2, 3], [1, 3], 2)["calibration@2"] == 1.0
    assert measured([2, 2], [3], 1)["calibration@1"] == 0.0


def test_only_the_first_k_places_count() -> None:
    assert measured([1], [1, 2, 3], 2) == measured([1], [1, 2, 4], 2)


def test_items_that_the_shelf_does_not_know_count_as_unknown() -> None:
    assert measured([9], [1, 99], 2)["diversity@2"] == 0.0


@given(
    past=st.lists(st.integers(0, 6), max_size=8),
    slate=st.lists(st.integers(0, 6), min_size=3, max_size=3),
)
def test_diversity_and_calibration_are_shares(past: list[int], slate: list[int]) -> None:
    found = measured(past, slate, 3)
    assert 0.0 <= found["diversity@3"] <= 1.0
    assert 0.0 <= found["calibration@3"] <= 1.0
    assert found["novelty@3"] >= 0.0
