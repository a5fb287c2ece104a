from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_lib.model.ragged import offsets_of, pad_left, pad_right, spans

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


@pytest.mark.parametrize("pad", [pad_left, pad_right])
@pytest.mark.parametrize("length", [0, 2, 5])
def test_one_row_is_padded_as_it_is_among_others(pad: Any, length: int) -> None:
    values = np.arange(10, 17)
    alone = pad(values[:length], np.array([0, length]), 3, -1)
    among = pad(values, np.array([0, length, 7]), 3, -1)
    assert alone.tolist() == among[:1].tolist()
