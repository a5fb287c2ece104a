from __future__ import annotations

import numpy as np

from recsys_lib.train.averages import Arrays, between


def told(*values: float) -> Arrays:
    return {"a/kernel": np.array(values, np.float32)}


def test_a_share_of_the_way_lies_between_parent_and_fine_tune() -> None:
    assert between(told(1, -2), told(3, 2), 0.25)["a/kernel"].tolist() == [1.5, -1]


def test_all_of_the_way_is_the_fine_tune_to_the_bit() -> None:
    student = told(0.1, 0.7)
    assert np.array_equal(between(told(1e8, -3), student, 1.0)["a/kernel"], student["a/kernel"])


def test_what_was_pruned_stays_zero() -> None:
    assert between(told(1, 1), told(0, 3), 0.5)["a/kernel"].tolist() == [0, 2]


def test_what_did_not_move_stays_to_the_bit() -> None:
    still = {"a/kernel": np.random.default_rng(7).normal(size=1000).astype(np.float32)}
    assert np.array_equal(between(still, still, 0.3)["a/kernel"], still["a/kernel"])
