from __future__ import annotations

import numpy as np
import pytest

from recsys_lib.model.shipped.rows import Rows

RANDOM = np.random.default_rng(3)
TABLE = (RANDOM.normal(size=(20, 6)) * RANDOM.uniform(0.01, 100, (20, 1))).astype(np.float32)


def test_eight_bits_miss_at_most_half_a_step_of_the_rows_own_scale() -> None:
    apart = np.abs(Rows.of(TABLE, 8).all() - TABLE).max(1)
    assert (apart <= np.abs(TABLE).max(1) / 127 / 2 * 1.001).all()


def test_thirty_two_bits_miss_nothing() -> None:
    np.testing.assert_array_equal(Rows.of(TABLE, 32).all(), TABLE)


def test_a_row_of_zeros_stays_one() -> None:
    assert not Rows.of(np.zeros((2, 3), np.float32), 8).all().any()


@pytest.mark.parametrize("bits", [8, 32])
def test_rows_are_added_and_replaced_without_a_change_of_the_others(bits: int) -> None:
    rows = Rows.of(TABLE, bits)
    more = rows.extended(TABLE[:2] * 7)
    np.testing.assert_array_equal(more.all()[:20], rows.all())
    np.testing.assert_allclose(
        more.all()[20:], TABLE[:2] * 7, rtol=0.1, atol=np.abs(TABLE).max() / 30
    )
    other = rows.replaced(np.array([3]), TABLE[5:6])
    np.testing.assert_array_equal(other.all()[3], rows.all()[5])
    assert (np.delete(other.all(), 3, 0) == np.delete(rows.all(), 3, 0)).all()
