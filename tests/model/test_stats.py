from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.model.plans import Plans
from recsys_lib.model.stats import (
    AMONG,
    DECAY,
    FEATURES,
    LIFT,
    POPULARITY,
    PRIOR,
    RETURNS,
    ItemReturns,
    ItemStats,
    item_stats,
)

LOG_SHARE, TREND, NEWNESS = (FEATURES.index(name) for name in ("log_share", "trend", "newness"))
Count = tuple[int, int, float]
"""(window, item, users)"""


def stats_of(counts: list[Count], items: int, first: int, last: int) -> ItemStats:
    window, index, users = zip(*counts, strict=True) if counts else ((), (), ())
    return item_stats(
        np.array(window, dtype=np.int64),
        np.array(index, dtype=np.int64),
        np.array(users, dtype=np.float64),
        items,
        first,
        last,
    )


COUNTS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 4), st.integers(1, 9).map(float)), max_size=20
)


@settings(max_examples=150, deadline=None)
@given(COUNTS, COUNTS, st.integers(1, 9))
def test_counts_at_or_after_a_window_never_touch_its_row(
    past: list[Count], future: list[Count], cut: int
) -> None:
    before = [(0, 1, 3.0), *(c for c in past if c[0] < cut)]
    after = [c for c in future if c[0] >= cut]
    known = stats_of(before, 4, 1, cut).values
    told = stats_of([*after, *before], 4, 1, 9).values
    np.testing.assert_array_equal(known, told[:cut])


def test_an_item_is_told_its_share_of_what_is_taken_of_its_kind() -> None:
    counts = [(1, 1, 6.0), (1, 2, 2.0), (1, 3, 8.0), (1, 4, 8.0)]
    brand = np.array([[0], [1], [1], [1], [0], [1]], np.int32)
    found = stats_of(counts, 5, 1, 2).with_kinds(brand)
    shares = np.expm1(found.values[1, :, -1]) / AMONG
    assert found.kinds == 1
    assert shares[1:4] == pytest.approx([3 / 8, 1 / 8, 1 / 2], abs=1e-5)
    assert shares[[0, 4, 5]].tolist() == [0, 0, 0], "of unknown brand, or never taken"


@settings(deadline=None)
@given(COUNTS, st.integers(0, 99))
def test_shares_of_a_kind_sum_up_to_all_of_it_or_to_nothing(counts: list[Count], seed: int) -> None:
    kinds = np.random.default_rng(seed).integers(0, 3, (5, 2)).astype(np.int32)
    plain = stats_of(counts, 4, 3, 9)
    found = plain.with_kinds(kinds)
    shares = np.expm1(found.values[..., -2:]) / AMONG
    for a, values in enumerate(kinds.T):
        for value in range(3):
            total = shares[:, values == value, a].sum(1)
            near = [abs(total), abs(total - (value > 0))]
            assert (np.minimum(*near) < 1e-4).all()
    width = plain.values.shape[2]
    np.testing.assert_array_equal(found.narrowed(width).values, plain.values)


@pytest.mark.parametrize("opening", [True, False])
def test_only_the_shops_first_window_stands_in_for_its_own_past(opening: bool) -> None:
    one, users = np.array([5]), np.array([3.0])
    found = item_stats(one, np.array([2]), users, 2, 4, 6, opening=opening).values[..., LOG_SHARE]
    assert (found[1, 2] > found[1, 1]) == opening, "row 1 is what was known when window 5 began"
    assert found[2, 2] > found[2, 1]


def test_a_share_is_decayed_by_window_with_half_a_buyer_for_everyone() -> None:
    found = stats_of([(7, 1, 10.0), (8, 1, 4.0), (8, 2, 6.0)], 2, 9, 9).values[0, :, LOG_SHARE]
    decayed = np.array([0.0, DECAY * 10 + 4, 6.0]) + 0.5
    assert found == pytest.approx(np.log(decayed / decayed.sum()), abs=1e-5)


def test_an_item_that_sold_more_in_the_last_window_trends_up() -> None:
    trend = stats_of([(7, 1, 10.0), (8, 2, 10.0)], 2, 9, 9).values[0, :, TREND]
    assert trend[2] > 0 > trend[1]


def test_the_fewer_take_an_item_the_less_it_trends() -> None:
    counts = [(7, 1, 2.0), (7, 2, 200.0), (8, 1, 4.0), (8, 2, 400.0), (7, 3, 1000.0)]
    trend = stats_of(counts, 3, 9, 9).values[0, :, TREND]
    assert 0 < 2 * trend[1] < trend[2]


@given(st.lists(st.integers(1, 9), min_size=4, max_size=4), st.integers(1, 5))
def test_who_sells_the_same_in_every_window_does_not_trend(sold: list[int], windows: int) -> None:
    """As in a log that has only begun: nothing is known of any trend there."""
    counts = [(w, item, float(n)) for w in range(windows) for item, n in enumerate(sold, 1)]
    trend = stats_of(counts, 4, 0, windows).values[:, 1:, TREND]
    assert trend == pytest.approx(np.zeros((windows + 1, 4)), abs=1e-6)


@given(st.integers(2, 9), st.sampled_from([0, 1, 50, 5000]))
def test_what_nobody_took_trends_like_the_newest_that_many_took(windows: int, lately: int) -> None:
    """It will be one of these, if any: what is learned of it on its first day stays true."""
    counts = [(w, 1, 1e6) for w in range(windows)] + [(windows - 1, 2, float(lately))]
    trend = stats_of(counts, 3, windows, windows).values[0, :, TREND]
    assert trend[3] >= trend[2]
    assert (trend[2] == pytest.approx(trend[3], rel=0.05)) == (lately in (0, 5000))


def test_newness_fades_with_the_windows_since_the_first_sale() -> None:
    values = stats_of([(5, 1, 1.0), (6, 2, 1.0), (8, 2, 1.0)], 3, 6, 9).values[..., NEWNESS]
    ages = {(0, 1): 1, (3, 1): 4, (3, 2): 3}
    for (row, item), age in ages.items():
        assert values[row, item] == pytest.approx(np.exp(-age / 4), abs=1e-5)
    assert values[0, 2] == 0.0  # sold first in window 6 itself
    assert not values[:, 3].any()  # never sold


def test_the_first_window_of_a_log_stands_in_for_its_own_missing_past() -> None:
    values = stats_of([(3, 1, 9.0), (3, 2, 1.0), (4, 2, 9.0)], 2, 3, 4).values
    assert values[0, 1, LOG_SHARE] > values[0, 2, LOG_SHARE] > values[0, 0, LOG_SHARE]


def test_windows_before_the_asked_ones_are_past_and_not_stand_ins() -> None:
    values = stats_of([(3, 1, 9.0), (4, 2, 9.0)], 2, 4, 4).values
    assert values[0, 2, LOG_SHARE] == values[0, 0, LOG_SHARE]


def test_a_shop_without_a_sale_has_equal_finite_shares() -> None:
    values = stats_of([], 3, 0, 2).values
    assert values.shape == (3, 4, len(FEATURES))
    assert values[..., LOG_SHARE] == pytest.approx(np.full((3, 4), np.log(1 / 4)))


def test_counts_of_items_that_are_not_known_yet_are_left_out() -> None:
    with_unknown = stats_of([(1, 1, 2.0), (1, 99, 50.0)], 2, 2, 2)
    np.testing.assert_array_equal(with_unknown.values, stats_of([(1, 1, 2.0)], 2, 2, 2).values)


def test_a_decision_reads_the_row_of_its_window_and_the_latest_when_unknown() -> None:
    stats = stats_of([(1, 1, 2.0)], 1, 5, 7)
    now = np.array([5.0, 6.9, 7.0, 99.0, np.nan, 1.0], dtype=np.float32)
    assert stats.rows(now).tolist() == [0, 1, 2, 2, 2, 0]


Return = tuple[int, int, int, int, int, int]
"""(window, item, firsts, seconds, returns, gaps)"""


def hazards_of(told: list[Return], items: int, first: int, last: int) -> np.ndarray:
    columns = np.array(told, np.float64).reshape(-1, 6).T
    whole = ItemReturns(columns[0].astype(np.int64), columns[1].astype(np.int64), *columns[2:])
    none = np.zeros(0, np.int64)
    stats = item_stats(none, none, np.zeros(0), items, first, last, whole)
    return stats.values[..., len(POPULARITY) : len(POPULARITY) + len(RETURNS)]


TOLD = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 4), *(st.integers(0, 5) for _ in range(4))),
    max_size=20,
)


@settings(max_examples=150, deadline=None)
@given(TOLD, TOLD, st.integers(1, 9))
def test_returns_at_or_after_a_window_never_touch_its_row(
    past: list[Return], future: list[Return], cut: int
) -> None:
    before = [(0, 1, 3, 1, 1, 1), *(c for c in past if c[0] < cut)]
    after = [c for c in future if c[0] >= cut]
    known = hazards_of(before, 4, 1, cut)
    told = hazards_of([*after, *before], 4, 1, 9)
    np.testing.assert_array_equal(known, told[:cut])
    assert np.isfinite(told).all()


def test_rates_are_the_items_own_against_the_shops_with_a_few_takers_like_all_others() -> None:
    # Item 1: ten took it in window 0, four again in window 2; item 2: ten, and nobody again.
    told = [(0, 1, 10, 0, 0, 0), (0, 2, 10, 0, 0, 0), (2, 1, 0, 4, 4, 8)]
    repeat, hazard, gap = hazards_of(told, 3, 3, 3)[0].T
    rates = np.array([(4 + PRIOR * 0.2) / (10 + PRIOR), PRIOR * 0.2 / (10 + PRIOR), 0.2])
    assert repeat[1:] == pytest.approx(0.5 * np.log(rates / 0.2), abs=1e-6)
    # Each of the twenty could have come back in windows 1 and 2.
    chances = np.array([(4 + PRIOR * 0.1) / (20 + PRIOR), PRIOR * 0.1 / (20 + PRIOR), 0.1])
    assert hazard[1:] == pytest.approx(0.5 * np.log(chances / 0.1), abs=1e-6)
    assert gap == pytest.approx(np.zeros(4), abs=1e-6)


def test_where_nobody_came_back_yet_all_items_are_alike() -> None:
    assert not hazards_of([(0, 1, 5, 0, 0, 0), (1, 2, 1, 0, 0, 0)], 2, 2, 3).any()


PLANNED = st.dictionaries(
    st.tuples(st.integers(0, 9), st.integers(1, 4)), st.sampled_from([0.5, 1.0, 4.0])
)
Told = dict[tuple[int, int], float]


def lifts_of(counts: list[Count], told: Told, first: int, last: int) -> np.ndarray:
    window, index, users = (np.array(part) for part in zip(*counts, strict=True))
    when, item = np.array([*told], np.int64).reshape(-1, 2).T
    plans = Plans.of(when, item, np.array([*told.values()], np.float32), 4)
    found = item_stats(window, index, users.astype(float), 4, first, last, plans=plans)
    return found.values[..., FEATURES.index(LIFT)]


@settings(max_examples=150, deadline=None)
@given(COUNTS, COUNTS, PLANNED, PLANNED, st.integers(1, 9))
def test_a_lift_is_that_of_the_windows_before(
    past: list[Count], future: list[Count], told: Told, later: Told, cut: int
) -> None:
    before = [(0, 1, 3.0), *(c for c in past if c[0] < cut)]
    after = [c for c in future if c[0] >= cut]
    plans = {key: weight for key, weight in told.items() if key[0] < cut}
    more = {key: weight for key, weight in later.items() if key[0] >= cut}
    known = lifts_of(before, plans, 1, cut)
    np.testing.assert_array_equal(known, lifts_of([*after, *before], {**plans, **more}, 1, 9)[:cut])


def test_a_lift_says_what_plans_do_for_an_item() -> None:
    counts = [(w, item, 4.0) for w in range(8) for item in (1, 2)]
    counts += [(w, 1, 20.0) for w in range(0, 8, 2)] + [(w, 3, 9.0) for w in range(1, 8, 2)]
    told = {(w, item): 1.0 for w in range(0, 8, 2) for item in (1, 2, 3, 4)}
    [lift] = lifts_of(counts, told, 8, 8)
    drawn, expected = 4 * 24.0, (8 * 4 + 4 * 20) * 4 / 8
    assert lift[1] == pytest.approx(np.log((drawn + PRIOR) / (expected + PRIOR)), rel=1e-5)
    assert lift[2] == lift[4] == 0, "taken as often without plans; never taken"
    assert lift[3] < -1


@settings(max_examples=150, deadline=None)
@given(COUNTS, PLANNED, st.integers(-5, 9))
def test_what_is_known_when_a_window_begins_hangs_on_none_of_the_windows_asked_beside_it(
    counts: list[Count], told: Told, first: int
) -> None:
    counts = [(0, 1, 3.0), *counts]
    alone, beside = (stats_of(counts, 4, since, 10).values[-1] for since in (10, first))
    np.testing.assert_array_equal(alone, beside)
    plans = {(window - 3, item): weight for (window, item), weight in told.items()}
    np.testing.assert_array_equal(
        lifts_of(counts, plans, 10, 10)[-1], lifts_of(counts, plans, first, 10)[-1]
    )
