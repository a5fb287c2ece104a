"""An increment unlike those before it is told from them, and not held against those after it."""

from __future__ import annotations

from typing import Any

import pytest

from recsys_lib.evaluate.anomalies import strange_windows
from recsys_lib.settings import GateSettings

SETTINGS = GateSettings()


def usual(window: int, **changed: Any) -> dict[str, Any]:
    """A window of a shop that wobbles a little."""
    wobble = (window * 7 % 5 - 2) / 1000
    return {
        "window": window,
        "events": 1000,
        "users": 100,
        "top_user_share": 0.02 + wobble,
        "unfamiliar_share": 0.10 + 2 * wobble,
        "value_shift": wobble,
        **changed,
    }


SHOP = [usual(window) for window in range(10)]


def test_what_stays_strange_is_usual_in_the_end_and_a_spike_is_not() -> None:
    shop = [usual(window) for window in range(20)]
    changed = [usual(window, unfamiliar_share=0.25 + window % 3 / 1000) for window in range(20, 50)]
    changed[20] = usual(40, unfamiliar_share=0.6)
    assert list(strange_windows([*shop, *changed], SETTINGS)) == [*range(20, 26), 40]


def test_a_steady_shop_has_nothing_strange() -> None:
    assert strange_windows(SHOP, SETTINGS) == {}


@pytest.mark.parametrize(
    ("poison", "word"),
    [
        ({"top_user_share": 0.9}, "one user's"),
        ({"unfamiliar_share": 0.17}, "nobody took lately"),
        ({"value_shift": 2.3}, "values"),
        ({"value_shift": -4.6}, "values"),
    ],
)
def test_poison_is_named_with_what_is_usual(poison: dict[str, float], word: str) -> None:
    found = strange_windows([*SHOP, usual(10, **poison)], SETTINGS)
    assert list(found) == [10]
    assert word in found[10][0]
    assert "increment 10" in found[10][0]


def test_what_follows_a_strange_window_is_compared_with_the_good_ones() -> None:
    rows = [*SHOP, *(usual(w, unfamiliar_share=0.5) for w in (10, 11, 12)), usual(13)]
    assert list(strange_windows(rows, SETTINGS)) == [10, 11, 12]


def test_the_order_of_rows_does_not_matter() -> None:
    rows = [*SHOP, usual(10, value_shift=1.0)]
    assert strange_windows(rows[::-1], SETTINGS) == strange_windows(rows, SETTINGS)


def test_a_young_shop_and_unknown_values_are_not_judged() -> None:
    assert strange_windows([*SHOP[:3], usual(3, top_user_share=0.9)], SETTINGS) == {}
    rows = [usual(w, value_shift=None) for w in range(10)]
    assert strange_windows([*rows, usual(10, value_shift=None)], SETTINGS) == {}


def test_less_activity_than_usual_of_the_busiest_user_is_not_strange() -> None:
    rows = [usual(w, top_user_share=0.5) for w in range(10)]
    assert strange_windows([*rows, usual(10, top_user_share=0.01)], SETTINGS) == {}


def test_nothing_is_strange_where_it_is_not_looked_at() -> None:
    off = GateSettings(max_deviation=None)
    assert strange_windows([*SHOP, usual(10, top_user_share=0.9)], off) == {}
