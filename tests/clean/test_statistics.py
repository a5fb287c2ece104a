"""Statistics merge in any order, and an increment is judged by those before it."""

from __future__ import annotations

import math
import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from recsys_lib.adapters.lake import Lake
from recsys_lib.clean.recipe import clean_increment
from recsys_lib.clean.statistics import known, merged, summarised
from recsys_lib.settings import CleanSettings, ColumnSettings, CrossSettings, FilledSettings
from tests.clean.test_clean import GOOD, MAPPING, arrive

NUMBER = st.one_of(
    st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6), st.just(0.0), st.none()
)
SILVER = "key string, item string, time timestamp, value double, quantity double"


@given(
    told=st.lists(st.tuples(st.sampled_from("ab"), NUMBER), min_size=30, max_size=90),
    random_=st.randoms(use_true_random=False),
)
@settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.generate],
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_the_order_and_the_parts_in_which_sketches_merge_change_nothing(
    lake: Lake, told: list[tuple[str, float | None]], random_: Any
) -> None:
    rows = [(f"k{n}", item, GOOD["time"], x, None) for n, (item, x) in enumerate(told)]

    def learned(parts: list[list[Any]]) -> dict[Any, Any]:
        frames = [
            summarised(lake.spark.createDataFrame(part, SILVER), ["value"], True, n)
            for n, part in enumerate(parts)
            if part
        ]
        whole = frames[0]
        for frame in frames[1:]:
            whole = whole.unionByName(frame)
        return {r["item"]: r.asDict() for r in merged(whole).drop("landed", "last").collect()}

    shuffled = list(rows)
    random_.shuffle(shuffled)
    cut = len(rows) // 3
    one = learned([rows])
    other = learned([shuffled[:cut], shuffled[cut : cut + 5], shuffled[cut + 5 :]])
    assert one.keys() == other.keys()
    for item, mine in one.items():
        for name in ("n", "low", "high", "sketch"):
            assert mine[name] == other[item][name], "exactly"
        xs = [x for i, x in told if x is not None and item in (None, i)]
        mean = sum(xs) / len(xs)
        m2 = sum((x - mean) ** 2 for x in xs)
        for found in (mine, other[item]):
            assert found["mean"] == pytest.approx(mean, rel=1e-9, abs=1e-6)
            assert found["m2"] == pytest.approx(m2, rel=1e-6, abs=1e-3)


def test_quantiles_are_off_by_one_percent_at_most(lake: Lake) -> None:
    rng = random.Random(1)
    xs = [rng.lognormvariate(2, 2) * rng.choice([1, 1, -1]) for _ in range(999)] + [0.0]
    rows = [(f"k{n}", "a", GOOD["time"], x, None) for n, x in enumerate(xs)]
    frame = lake.spark.createDataFrame(rows, SILVER)
    found = known(summarised(frame, ["value"], False, 0), by_item=False)
    assert found is not None
    row = found.whole["value"]
    ordered = sorted(xs)
    for name, share in (("q1", 0.25), ("median", 0.5), ("q3", 0.75)):
        exact = ordered[math.ceil(share * len(xs)) - 1]
        assert row[name] == pytest.approx(exact, rel=0.0101)
    assert row["n"] == 1000


def land(lake: Lake, number: int, chosen: CleanSettings, *values: float | None, **more: Any) -> Any:
    rows = [
        {
            "key": f"{number}-{n}",
            "value": x,
            "time": GOOD["time"] + timedelta(hours=10 * number + n),
            **more,
        }
        for n, x in enumerate(values)
    ]
    arrive(lake, number, *rows)
    return clean_increment(lake, number, MAPPING, chosen)["by_rule"]


def silver(lake: Lake, column: str, number: int) -> list[Any]:
    rows = lake.read("silver").where(f"key LIKE '{number}-%'").orderBy("key").collect()
    return [row[column] for row in rows]


@pytest.mark.parametrize(
    ("outlier", "log", "turned"), [("box", False, 2), ("zscore", False, 2), ("box", True, 1)]
)
def test_an_outlier_is_judged_by_what_was_known_before_its_increment(
    lake: Lake, outlier: Any, log: bool, turned: int
) -> None:
    column = FilledSettings(outlier=outlier, log=log, min_count=4)
    chosen = CleanSettings(value=column)
    assert land(lake, 0, chosen, 1.0, 2.0, 3.0, 4.0, 1000.0 if outlier == "box" else 3.5) == {}
    found = land(lake, 1, chosen, 2.5, None, 20.0, 10_000.0)
    assert found == {"outlier_value": turned}
    assert len(silver(lake, "value", 1)) == 4 - turned, "what is missing is no outlier"


def test_one_absurd_number_does_not_make_outliers_of_all_that_follow(lake: Lake) -> None:
    chosen = CleanSettings(value=FilledSettings(outlier="zscore", min_count=3))
    assert land(lake, 0, chosen, 1.0, 2.0, 3.0, 1e200, 1.7e308, 1.7e308) == {}
    assert land(lake, 1, chosen, 2.0, 1e200, 50.0) == {"outlier_value": 2}


def test_by_item_and_by_price_the_fences_are_their_own(lake: Lake) -> None:
    price = ColumnSettings(outlier="box", by="item", min_count=3)
    chosen = CleanSettings(price=price)
    land(lake, 0, chosen, 2.0, 4.0, 6.0, 8.0, quantity=2.0, item="cheap")
    land(lake, 1, chosen, 200.0, 400.0, 600.0, quantity=2.0, item="dear")
    assert land(lake, 2, chosen, 300.0, quantity=2.0, item="cheap") == {"outlier_price": 1}
    assert land(lake, 3, chosen, 300.0, quantity=2.0, item="dear") == {}
    assert land(lake, 4, chosen, 300.0, quantity=2.0, item="never seen") == {}


def test_gaps_are_filled_from_what_was_known_and_said_so(lake: Lake) -> None:
    mean = CleanSettings(
        value=FilledSettings(fill="mean", min_count=2),
        quantity=FilledSettings(fill="median", min_count=2),
    )
    land(lake, 0, mean, 1.0, None, 5.0, quantity=4.0)
    assert silver(lake, "value", 0) == [1.0, None, 5.0], "nothing was known before the first"
    land(lake, 1, mean, None, 7.0)
    assert silver(lake, "value", 1) == [3.0, 7.0]
    assert silver(lake, "quantity", 1) == pytest.approx([4.0, 4.0], rel=0.01)
    assert silver(lake, "filled", 1) == [["value", "quantity"], ["quantity"]]


def test_gaps_are_filled_in_time_between_what_was_before_and_after(lake: Lake) -> None:
    chosen = CleanSettings(value=FilledSettings(fill="interpolate"))
    land(lake, 0, chosen, None, 2.0, None, None, 8.0)
    assert silver(lake, "value", 0) == pytest.approx([2.0, 2.0, 4.0, 6.0, 8.0])
    land(lake, 1, chosen, None, None, 11.0, None)
    # 8 was said in hour 4, these are of hours 10 to 13
    assert silver(lake, "value", 1) == pytest.approx([8 + 6 / 8 * 3, 8 + 7 / 8 * 3, 11.0, 11.0])


def test_normal_forms_and_crosses_name_the_statistics_they_were_made_with(lake: Lake) -> None:
    cross = CrossSettings(of=("type", "value"), buckets=50)
    chosen = CleanSettings(
        value=FilledSettings(normalise="zscore", min_count=2),
        quantity=FilledSettings(normalise="log"),
        crosses={"type_value": cross},
    )
    land(lake, 0, chosen, 1.0, 3.0, quantity=math.e - 1)
    assert silver(lake, "value_normal", 0) == pytest.approx([-1.0, 1.0])
    assert silver(lake, "quantity_normal", 0) == pytest.approx([1.0, 1.0])
    land(lake, 1, chosen, 5.0, 1.0, None)
    assert silver(lake, "value_normal", 1) == [pytest.approx(3.0), pytest.approx(-1.0), None]
    assert silver(lake, "statistics", 1) == silver(lake, "landed", 0)[:1] * 3
    first, second = silver(lake, "cross_type_value", 0), silver(lake, "cross_type_value", 1)
    assert first[0] == second[1] != first[1]
    assert second[2] == 0
    assert all(0 <= bucket <= 50 for bucket in (*first, *second))


def test_off_leaves_silver_as_it_was(lake: Lake) -> None:
    land(lake, 0, CleanSettings(), 1.0)
    made = {"filled", "value_normal", "statistics"} & set(lake.read("silver").columns)
    assert not made
    assert not lake.exists("statistics")
