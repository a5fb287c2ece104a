from __future__ import annotations

import pytest

from recsys_lib.errors import SettingsError
from recsys_lib.increment.plan import lesson_windows, lone_window, plan


def test_history_comes_first_and_then_the_asked_increments_one_by_one() -> None:
    found = plan(range(1, 54), history=26, increments=4)
    assert (found.first, found.history) == (1, 26)
    assert found.increments == (27, 28, 29, 30)
    assert found.judge == 31
    assert found.landing == (27, 28, 29, 30, 31)


def test_all_windows_but_the_last_are_increments_when_no_number_is_asked() -> None:
    found = plan(range(6), history=3, increments=None)
    assert (found.increments, found.judge) == ((3, 4), 5)


def test_an_increment_at_the_very_end_of_the_log_has_nothing_to_be_judged_on() -> None:
    found = plan(range(6), history=3, increments=3)
    assert (found.increments, found.judge) == ((3, 4, 5), None)
    assert found.landing == (3, 4, 5)


def test_a_single_window_after_the_history_is_learned_and_not_judged() -> None:
    found = plan(range(4), history=3, increments=None)
    assert (found.increments, found.judge) == ((3,), None)


def test_more_weeks_than_the_log_has_are_as_many_as_it_has() -> None:
    found = plan(range(6), history=3, increments=99)
    assert (found.increments, found.judge) == ((3, 4, 5), None)


def test_a_window_without_a_row_keeps_its_place() -> None:
    found = plan([0, 1, 5, 7], history=3, increments=None)
    assert (found.history, found.increments, found.judge) == (2, (3, 4, 5, 6), 7)


def test_a_log_that_is_all_history_has_no_increment() -> None:
    found = plan(range(3), history=3, increments=None)
    assert (found.increments, found.judge, found.landing) == ((), None, ())


def test_no_increments_at_all_may_be_asked_for() -> None:
    found = plan(range(6), history=3, increments=0)
    assert (found.increments, found.judge) == ((), 3)


def test_windows_may_come_in_any_order_and_more_than_once() -> None:
    assert plan([3, 1, 2, 2, 0], 2, None) == plan(range(4), 2, None)


def test_a_log_shorter_than_its_history_says_how_long_it_is() -> None:
    with pytest.raises(SettingsError, match=r"history must be at most 5 \(.*\), got 26; lower it"):
        plan(range(10, 15), history=26, increments=4)


def test_windows_behind_a_gap_that_no_log_has_are_left_out() -> None:
    with pytest.warns(match=r"window 2000000000 is 1999999995 windows after .* 5.*rejects"):
        found = plan([*range(6), 2_000_000_000, 2_000_000_001], history=3, increments=None)
    assert found == plan(range(6), history=3, increments=None)
    with pytest.raises(SettingsError, match="window -2000000000 stands alone"):
        plan([-2_000_000_000, *range(6)], history=3, increments=None)


def test_a_history_that_ends_before_window_0_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        SettingsError, match=r"windows -2 to -1, before windows\.start.*another --out"
    ):
        plan(range(-2, 9), history=2, increments=None)
    assert plan(range(-2, 9), history=3, increments=1).history == 0


def test_a_log_without_rows_is_an_error() -> None:
    with pytest.raises(SettingsError, match="at least one window with rows, got none"):
        plan([], history=1, increments=None)


def test_a_lesson_covers_what_the_champion_has_not_learned() -> None:
    assert lesson_windows(champion_learned=27, window=28) == (28, 28)
    assert lesson_windows(champion_learned=26, window=29) == (27, 29)


@pytest.mark.parametrize(
    ("windows", "history", "lone"),
    [
        ([0, 1400, 1401, 1402], 4, True),
        ([-900, 0, 1], 1, True),
        ([0, 1, 2, 3], 1, False),
        ([0, 2, 3, 4], 4, False),
        ([0, 1, 9], 4, False),
        ([7], 1, False),
    ],
)
def test_a_window_that_stands_alone_before_all_others_is_told_with_what_to_do(
    windows: list[int], history: int, lone: bool
) -> None:
    told = lone_window(windows, history)
    assert (told is not None) is lone
    if told is not None:
        assert f"window {windows[0]} stands alone" in told
        assert "clean.earliest" in told
        assert "another --out" in told
