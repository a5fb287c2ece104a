from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.model.copies import COPY_FEATURES, RECENT_DECAY, USER_FEATURES
from recsys_lib.model.histories import Histories
from recsys_lib.model.inputs import inputs
from recsys_lib.model.plans import Plans
from tests.model.tiny import Event, histories_of

DECAY = 0.9
NAN = float("nan")


def copy_features(
    history: list[Event], now: float, plans: dict[tuple[int, int], float]
) -> dict[int, dict[str, float]]:
    """Each past item's features, as one would write them down by hand."""
    ages = [0.0 if math.isnan(now - at) else max(now - at, 0.0) for _, at in history]
    times = [-1.0 if math.isnan(at) else at for _, at in history]
    visit = [0]
    for before, after in pairwise(times):
        visit.append(visit[-1] + (after != before))
    visits = visit[-1] + 1
    planned, weight = offers(history, plans), [DECAY**age for age in ages]
    out = {}
    for item in {item for item, _ in history if item > 0}:
        own = [place for place, (other, _) in enumerate(history) if other == item]
        first, last = own[0], own[-1]
        bought_on = len({visit[place] for place in own})
        usual = max(ages[first] - ages[last], 0.0) / max(bought_on - 1, 1)
        twice = bought_on > 1
        ratio = math.log((ages[last] + 0.1) / (usual + 0.1)) if twice else 0.0
        out[item] = {
            "log_decayed_count": math.log(sum(DECAY ** ages[place] for place in own)),
            "log_recent_count": math.log(sum(RECENT_DECAY ** ages[place] for place in own) + 1e-4),
            "log_count": math.log(len(own)),
            "log_share_of_user": math.log(len(own) / len(history)),
            "log_weeks_since_last": math.log1p(ages[last]),
            "log_weeks_since_first": math.log1p(ages[first]),
            "log_events_since_last": math.log1p(len(history) - 1 - last),
            "is_last_event": float(last == len(history) - 1),
            "bought_twice": float(twice),
            "log_gap_over_usual_gap": min(max(ratio, -4.0), 4.0),
            "rate_per_visit": bought_on / max(visits - visit[first], 1),
            "visits_since_last": math.log1p(visits - 1 - visit[last]),
            "log_usual_gap": math.log1p(usual) if twice else 0.0,
            "planned_when_taken": mean(own, planned, weight),
        }
    return out


def offers(history: list[Event], plans: dict[tuple[int, int], float]) -> list[float]:
    return [plans.get((int(at), item), 0.0) if at == at else 0.0 for item, at in history]


def mean(places: list[int], values: list[float], weight: list[float]) -> float:
    whole = sum(weight[place] for place in places)
    return sum(weight[place] * values[place] for place in places) / whole if whole else 0.0


def user_features(
    history: list[Event], now: float, plans: dict[tuple[int, int], float]
) -> dict[str, float]:
    ages = [0.0 if math.isnan(now - at) else max(now - at, 0.0) for _, at in history]
    distinct = len({item for item, _ in history if item > 0})
    times = [-1.0 if math.isnan(at) else at for _, at in history]
    changes = sum(a != b for a, b in pairwise(times))
    known = [place for place, (item, _) in enumerate(history) if item > 0]
    weight = [DECAY**age for age in ages]
    return {
        "log_events": math.log1p(len(history)),
        "log_items": math.log1p(distinct),
        "share_repeated": 1 - distinct / len(known) if known else 0.0,
        "log_weeks_since_visit": math.log1p(ages[-1]) if ages else 0.0,
        "log_weeks_known": math.log1p(ages[0]) if ages else 0.0,
        "log_visits": math.log1p(changes + 1 if history else 0),
        "planned_when_taken": mean(known, offers(history, plans), weight),
    }


TIMES = [1.0, 1.5, 2.0, 4.25, 9.0, 10.0, 12.0]


@st.composite
def a_history(draw: Any) -> list[Event]:
    """Callers bring histories whose times are not told, or not in order."""
    times = draw(st.lists(st.sampled_from([*TIMES, NAN]), max_size=9))
    if draw(st.booleans()):
        times = sorted(at for at in times if at == at)
    return [(draw(st.integers(0, 3)), at) for at in times]


@settings(max_examples=250, deadline=None)
@given(
    st.lists(a_history(), min_size=1, max_size=4),
    st.sampled_from([10.0, 11.5, NAN]),
    st.dictionaries(
        st.tuples(st.sampled_from([1, 2, 9]), st.integers(1, 3)), st.sampled_from([0.5, 2.0])
    ),
)
def test_every_feature_equals_what_is_computed_by_hand(
    rows: list[list[Event]], now: float, told: dict[tuple[int, int], float]
) -> None:
    window, item = np.array([*told], np.int64).reshape(-1, 2).T
    plans = Plans.of(window, item, np.array([*told.values()], np.float32), 3)
    x = inputs(histories_of(*rows, now=now), 8, 8, DECAY, plans=plans if told else None)
    for number, history in enumerate(rows):
        expected = copy_features(history, now, told)
        places = x.copy_items[number]
        assert sorted(item for item in places if item) == sorted(expected)
        for place, item in enumerate(places):
            if item:
                found = dict(zip(COPY_FEATURES, x.copy_features[number, place], strict=True))
                assert found == pytest.approx(expected[item], abs=1e-4)
            else:
                assert not x.copy_features[number, place].any()
        user = dict(zip(USER_FEATURES, x.user_features[number], strict=True))
        assert user == pytest.approx(user_features(history, now, told), abs=1e-4)


def test_who_has_had_nothing_that_is_known_repeats_nothing() -> None:
    told = inputs(
        histories_of([], [(0, 9.0)], [(0, 8.0), (1, 9.0)], [(1, 8.0), (1, 9.0)]), 8, 8, DECAY
    )
    share = told.user_features[:, USER_FEATURES.index("share_repeated")]
    assert share.tolist() == [0.0, 0.0, 0.0, 0.5]


def test_a_history_with_more_items_than_the_limit_keeps_the_most_frequent() -> None:
    x = inputs(histories_of([(1, 1.0), (2, 8.0), (3, 9.0), (3, 9.5)], [(9, 9.0)]), 8, 2, DECAY)
    assert x.copy_items.tolist() == [[2, 3], [9, 0]]


def test_of_items_that_are_as_frequent_the_smaller_are_kept() -> None:
    x = inputs(histories_of([(4, 9.0), (7, 9.0), (2, 9.0), (5, 1.0)]), 8, 2, DECAY)
    assert x.copy_items.tolist() == [[4, 2]]


def test_a_copied_item_carries_the_type_of_its_latest_event() -> None:
    histories = histories_of([(5, 1.0), (5, 2.0)])
    typed = replace(histories, types=np.array([2, 3], dtype=np.int32))
    assert inputs(typed, 8, 8, DECAY).copy_types[0, 0] == 3


def test_events_carry_the_log_of_their_value_and_returns_are_worth_nothing() -> None:
    worth = np.array([5.0, -2.0, np.nan], np.float32)
    events = replace(histories_of([(1, 4.0), (2, 7.0), (3, 8.0)]), values=worth)
    found = inputs(events, 4, 8, DECAY).recent_facts[0, :, 2]
    assert np.expm1(found) == pytest.approx([0.0, 5.0, 0.0, 0.0])


def test_latest_events_stand_at_the_right_and_older_ones_are_cut() -> None:
    x = inputs(histories_of([(1, 1.0), (2, 2.0), (3, 3.0)], [(4, 4.0)], []), 2, 8, DECAY)
    assert x.recent_items.tolist() == [[2, 3], [0, 4], [0, 0]]
    assert x.recent_types.tolist() == [[1, 1], [0, 1], [0, 0]]


def test_gaps_are_to_the_decision_and_to_the_next_event_of_the_same_user() -> None:
    x = inputs(histories_of([(1, 4.0), (2, 7.0)], [(3, 9.0)]), 2, 8, DECAY)
    expected = [[[6.0, 3.0, 0.0], [3.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]]
    assert np.expm1(x.recent_facts) == pytest.approx(np.array(expected), abs=1e-5)


def test_widths_are_powers_of_two_up_to_the_limits() -> None:
    five = histories_of([(item, 1.0) for item in range(1, 6)])
    assert inputs(five, 64, 64, DECAY).recent_items.shape == (1, 8)
    assert inputs(five, 64, 64, DECAY).copy_items.shape == (1, 8)
    assert inputs(five, 6, 3, DECAY).recent_items.shape == (1, 6)
    assert inputs(five, 6, 3, DECAY).copy_items.shape == (1, 3)


def test_limits_cut_old_events_from_the_sequence_but_not_from_the_counts() -> None:
    history: list[Event] = [(1, 1.0), (1, 2.0), (2, 3.0)]
    x = inputs(histories_of(history), 1, 8, DECAY)
    place = x.copy_items[0].tolist().index(1)
    assert x.recent_items.tolist() == [[2]]
    assert x.copy_features[0, place, COPY_FEATURES.index("log_count")] == pytest.approx(math.log(2))


def test_an_event_after_the_decision_has_age_zero() -> None:
    x = inputs(histories_of([(1, 12.0)], now=10.0), 4, 4, DECAY)
    assert x.copy_features[0, 0, COPY_FEATURES.index("log_weeks_since_last")] == 0.0


def test_an_event_of_long_ago_has_features_that_are_numbers() -> None:
    x = inputs(histories_of([(1, -1e6), (2, -2000.0), (3, 8.0)]), 4, 4, DECAY)
    assert all(np.isfinite(value).all() for value in x.as_dict().values())
    assert sorted(x.copy_items[0].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("rows", [[[]], [[], [(0, 3.0)]], [[(0, NAN), (0, NAN)]]])
def test_histories_without_any_known_item_have_nothing_to_copy(rows: list[list[Event]]) -> None:
    x = inputs(histories_of(*rows), 4, 4, DECAY)
    assert not x.copy_items.any()
    assert all(np.isfinite(values).all() for values in x.as_dict().values())


def test_age_counts_for_users_even_when_the_shop_knows_none_of_their_items() -> None:
    alone = inputs(histories_of([(0, 4.0), (0, 6.0)]), 4, 4, DECAY)
    beside = inputs(histories_of([(0, 4.0), (0, 6.0)], [(1, 9.0)]), 4, 4, DECAY)
    assert alone.user_features[0] == pytest.approx(beside.user_features[0])


def test_a_history_reads_the_same_alone_and_in_company() -> None:
    rows: list[list[Event]] = [[(1, 2.0), (2, 3.0), (1, 3.0)], [], [(3, 9.0)]]
    together = inputs(histories_of(*rows), 4, 4, DECAY)
    for number, row in enumerate(rows):
        alone = inputs(histories_of(row), 4, 4, DECAY)
        width = alone.copy_items.shape[1]
        assert together.copy_items[number, :width].tolist() == alone.copy_items[0].tolist()
        assert together.copy_features[number, :width] == pytest.approx(alone.copy_features[0])
        assert together.user_features[number] == pytest.approx(alone.user_features[0])


def test_making_inputs_leaves_the_histories_as_they_were() -> None:
    histories = histories_of([(2, 9.0), (1, NAN), (0, 3.0)], [])
    before = {name: np.copy(value) for name, value in vars(histories).items()}
    inputs(histories, 4, 4, DECAY)
    same = Histories(**before)
    for name, value in vars(histories).items():
        np.testing.assert_array_equal(value, getattr(same, name))
