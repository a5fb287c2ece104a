from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_lib.model.ragged import (
    falling,
    first_of_each,
    offsets_of,
    order_by,
    pad_left,
    pad_right,
    spans,
)

OFFSETS = np.array([0, 3, 3, 4])
VALUES = np.array([1, 2, 3, 4])


def test_spans_are_the_ranges_one_after_the_other() -> None:
    assert spans(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]


def test_spans_of_nothing_are_nothing() -> None:
    assert spans(np.array([], dtype=np.int64), np.array([], dtype=np.int64)).tolist() == []


def test_offsets_start_at_zero_and_end_at_the_total() -> None:
    assert offsets_of(np.array([2, 0, 1])).tolist() == [0, 2, 2, 3]


def test_left_padding_keeps_the_last_values() -> None:
    assert pad_left(VALUES, OFFSETS, 2, 0).tolist() == [[2, 3], [0, 0], [0, 4]]


def test_right_padding_keeps_the_first_values() -> None:
    assert pad_right(VALUES, OFFSETS, 2, -1).tolist() == [[1, 2], [-1, -1], [4, -1]]


def test_values_of_more_dimensions_are_padded_along_the_first() -> None:
    pairs = np.array([[1, 1], [2, 2], [3, 3], [4, 4]])
    assert pad_left(pairs, OFFSETS, 1, 0).tolist() == [[[3, 3]], [[0, 0]], [[4, 4]]]


@pytest.mark.parametrize("major", [[2, 0, 1, 0, 2, 0], [2**40, 0, 1, 0, 2**40, 0]])
def test_pairs_are_ordered_and_equal_ones_keep_their_places(major: list[int]) -> None:
    minor = np.array([7, 3, 2**30, 3, 6, 0], np.int64)
    found = order_by(np.array(major, np.int64), minor)
    assert found.tolist() == [5, 1, 3, 2, 4, 0]


def test_nothing_has_an_order_too() -> None:
    none = np.zeros(0, np.int64)
    assert order_by(none, none).tolist() == []


def test_falling_numbers_rise() -> None:
    values = np.array([0.0, 1e-30, 0.5, 1.0, 3e8], np.float32)
    assert (np.diff(falling(values)) < 0).all()
    assert (falling(values) >= 0).all()


def test_the_first_of_each_row_are_taken() -> None:
    places, offsets = first_of_each(np.array([0, 3, 3, 5]), 2)
    assert places.tolist() == [0, 1, 3, 4]
    assert offsets.tolist() == [0, 2, 2, 4]


@pytest.mark.parametrize("pad", [pad_left, pad_right])
@pytest.mark.parametrize("length", [0, 2, 5])
def test_one_row_is_padded_as_it_is_among_others(pad: Any, length: int) -> None:
    values = np.arange(10, 17)
    alone = pad(values[:length], np.array([0, length]), 3, -1)
    among = pad(values, np.array([0, length, 7]), 3, -1)
    assert alone.tolist() == among[:1].tolist()
