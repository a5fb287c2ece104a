from __future__ import annotations

import threading

import pytest

from recsys_lib.tables import side_by_side


def test_steps_side_by_side_are_under_way_at_the_same_time() -> None:
    both = threading.Barrier(2)
    side_by_side(lambda: both.wait(10), lambda: both.wait(10))


def test_what_one_step_raises_is_raised_when_all_have_ended() -> None:
    failed, ended = threading.Event(), threading.Event()

    def fails() -> None:
        failed.set()
        raise ValueError("of the first")

    def goes_on() -> None:
        failed.wait(10)
        ended.set()

    with pytest.raises(ValueError, match="of the first"):
        side_by_side(fails, goes_on)
    assert ended.is_set()
