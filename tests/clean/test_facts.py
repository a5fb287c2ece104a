"""Rules that need to know more than the row: bots, returns, near duplicates."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recsys_lib.adapters.lake import Lake
from recsys_lib.clean import judge
from recsys_lib.clean.late import closable_window
from recsys_lib.clean.near import near_keys
from recsys_lib.clean.recipe import clean_increment
from recsys_lib.features.recipe import prepare_window
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings, FeatureSettings, WatermarkSettings
from recsys_lib.types import Increment
from tests.clean.test_clean import MAPPING, arrive

START = datetime(2020, 1, 5, tzinfo=UTC)
RETURNS = Mapping.model_validate(
    {**MAPPING.model_dump(), "returns": "x", "targets": ["event"], "rejects": {}}
)


def at(seconds: float, **row: Any) -> dict[str, Any]:
    return {"time": START + timedelta(seconds=seconds), **row}


def rules(lake: Lake) -> dict[str, str]:
    rows = lake.read("quarantine").select("key", "rule").collect()
    return {row["key"]: row["rule"] for row in rows}


def kept(lake: Lake) -> list[str]:
    return sorted(row["key"] for row in lake.read("silver").select("key").collect())


def test_an_event_near_a_kept_one_is_turned_away_also_across_increments(lake: Lake) -> None:
    near = CleanSettings(near_seconds=10)
    arrive(lake, 0, *(at(s, key=f"t{s}") for s in (0, 6, 12, 18)), at(1, key="other", item="j"))
    clean_increment(lake, 0, MAPPING, near)
    assert kept(lake) == ["other", "t0", "t12"], "t12 is near t6, but t6 is not kept"
    arrive(lake, 1, at(25, key="t25"), at(20, key="t20"), at(12, key="t12"), at(-5, key="t-5"))
    clean_increment(lake, 1, MAPPING, near)
    assert kept(lake) == ["other", "t0", "t12", "t25"]
    assert rules(lake) == {
        **dict.fromkeys(["t6", "t18", "t20", "t-5"], "near_duplicate"),
        "t12": "duplicate",
    }


def test_where_a_log_is_cut_does_not_change_which_events_are_near(lake: Lake) -> None:
    """Many users at once: each is a case of its own, walked here in plain Python."""
    import random

    rng = random.Random(3)
    times = {f"u{n}": sorted(rng.sample(range(120), rng.randint(1, 30))) for n in range(40)}
    rows = [at(s, key=f"{u}-{s:03}", user=u) for u, told in times.items() for s in told]
    schema = "key string, user string, item string, type string, time timestamp"

    def frame(chosen: list[dict[str, Any]]) -> Any:
        told = [(r["key"], r["user"], "i", "event", r["time"]) for r in chosen]
        return lake.spark.createDataFrame(told, schema)

    expected = set()
    for user, told in times.items():
        last = -100
        for second in told:
            last, near = (last, True) if second - last <= 7 else (second, False)
            expected |= {f"{user}-{second:03}"} if near else set()
    whole = {r["key"] for r in near_keys(frame(rows), None, 7).collect()}
    assert whole == expected
    cut = START + timedelta(seconds=60)
    first, second = [r for r in rows if r["time"] < cut], [r for r in rows if r["time"] >= cut]
    near = {r["key"] for r in near_keys(frame(first), None, 7).collect()}
    silver = frame([r for r in first if r["key"] not in near])
    near |= {r["key"] for r in near_keys(frame(second), silver, 7).collect()}
    assert near == expected


def test_a_user_with_too_many_events_in_an_hour_is_a_bot(lake: Lake) -> None:
    bots = CleanSettings(max_user_events=2)
    fast = [at(s, key=f"b{s}", user="bot") for s in range(3)]
    arrive(lake, 0, *fast, at(0, key="b0", user="man"), at(1, key="m1", user="man"))
    arrive(lake, 1, at(4000, key="m2", user="man"))
    counts = clean_increment(lake, 0, MAPPING, bots)
    assert counts["by_rule"] == {"bot": 3}
    arrive(lake, 2, at(9, key="b9", user="bot"), at(4000, key="b4000", user="bot"))
    assert clean_increment(lake, 1, MAPPING, bots)["by_rule"] == {"bot": 1}, "the same hour"
    assert {"b4000", "b0", "m1", "m2"} == set(kept(lake))


def test_return_without_sale_is_quarantined_apart_from_a_return(lake: Lake) -> None:
    back = {"rejected": "return"}
    arrive(lake, 0, at(0, key="sale"), at(50, key="same", **back), at(-9, key="early", **back))
    clean_increment(lake, 0, RETURNS, CleanSettings())
    arrive(
        lake,
        1,
        at(99, key="later", **back),
        at(99, key="other", item="j", **back),
        at(98, key="viewed", user="v", type="view"),
        at(99, key="unsold", user="v", **back),
        at(99, key="nobody", user=None, **back),
    )
    clean_increment(lake, 1, RETURNS, CleanSettings())
    assert rules(lake) == {
        "same": "return",
        "later": "return",
        **dict.fromkeys(["early", "other", "unsold"], "return_without_sale"),
        "nobody": "missing_user",
    }
    assert kept(lake) == ["sale", "viewed"]


@pytest.mark.parametrize(("most", "sent"), [(2, True), (1, False)])
def test_returns_are_sent_whole_to_every_executor_only_where_they_are_few(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, most: int, sent: bool
) -> None:
    arrive(lake, 0, at(0, key="sale"), at(50, key="back", rejected="return"))
    fresh = Increment("bronze", 0, 1, rows=2)
    monkeypatch.setattr(judge, "IN_MEMORY", most)
    rows = judge.judged(lake, lake.read(fresh), fresh, RETURNS, CleanSettings(), None)
    assert ("broadcast" in rows._jdf.queryExecution().logical().toString().lower()) is sent


def test_what_comes_after_its_window_was_closed_is_marked_late(lake: Lake) -> None:
    arrive(lake, 0, {"key": "a"})
    clean_increment(lake, 0, MAPPING, CleanSettings())
    prepare_window(lake, 0, MAPPING, FeatureSettings())
    arrive(lake, 1, {"key": "b"}, {"key": "c", "window": 1, "at": 1.5})
    clean_increment(lake, 1, MAPPING, CleanSettings())
    found = {r["key"]: r["late"] for r in lake.read("silver").collect()}
    assert found == {"a": False, "b": True, "c": False}


def silver(lake: Lake, *rows: tuple[str, int, float, datetime | None]) -> None:
    schema = "source string, `window` int, at double, time timestamp"
    frame = lake.spark.createDataFrame(list(rows), schema)
    lake.append_once("silver", frame, app="test", version=0)


def test_an_event_of_a_clock_that_is_fast_closes_no_window(lake: Lake) -> None:
    now = datetime.now(UTC)
    past, soon = now - timedelta(minutes=5), now + timedelta(hours=20)
    silver(lake, ("shop", 0, 0.5, past), ("shop", 1, 1.2, past), ("shop", 2, 2.1, soon))
    assert closable_window(lake, CleanSettings(), days=7.0) == 0


def test_a_source_that_ended_in_an_open_window_holds_it_open_for_so_long(lake: Lake) -> None:
    silver(lake, ("log", 3, 3.5, None), ("shop", 3, 3.1, None), ("shop", 9, 9.1, None))
    for idle, closable in ((9.0, None), (4.0, 4), (1.0, 7), (0.0, 8)):
        settings = CleanSettings(watermark=WatermarkSettings(idle_windows=idle))
        assert closable_window(lake, settings, days=7.0) == closable


@pytest.mark.parametrize(
    ("windows", "alone", "closable", "told"),
    [
        ((0, 1, 2, 460), 3, 1, "window 460 is 458 windows after"),
        ((0, 1, 2, 2_000_000_000, 2_000_000_001), 3, 1, "window 2000000000"),
        ((0, 1, 2, 460, 461), 3, 460, None),
        ((0, 1, 2, 460), 900, 459, None),
    ],
)
def test_a_wrong_number_of_a_window_closes_none(
    lake: Lake, windows: tuple[int, ...], alone: int, closable: int, told: str | None
) -> None:
    silver(lake, *(("shop", window, float(window), None) for window in windows))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = closable_window(lake, CleanSettings(), days=7.0, counted=True, alone=alone)
    assert found == closable
    assert [told in str(w.message) for w in heard if "rejects" in str(w.message)] == (
        [True] if told else []
    )


@pytest.mark.parametrize(
    ("watermark", "own", "closable"),
    [
        ({}, {}, 1),
        ({"windows": 0.3}, {}, 0),
        ({}, {"app": {"windows": 1.0}}, 1),
        ({}, {"shop": {"seconds": 2 * 86_400}}, 0),
        ({"windows": 9.0}, {}, None),
    ],
)
def test_a_window_may_be_closed_when_every_source_is_past_it(
    lake: Lake, watermark: dict[str, float], own: dict[str, Any], closable: int | None
) -> None:
    rows = [("shop", 0, 0.5), ("shop", 1, 1.9), ("shop", 2, 2.2), ("app", 4, 4.5)]
    silver(lake, *((*row, None) for row in rows))
    watermarks = {name: WatermarkSettings(**told) for name, told in own.items()}
    settings = CleanSettings(watermark=WatermarkSettings(**watermark), watermarks=watermarks)
    assert closable_window(lake, settings, days=7.0) == closable
