"""The law of late events: a target in at most one window, and in every later history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from recsys_lib.adapters.lake import Lake
from recsys_lib.features.recipe import prepare_window
from recsys_lib.mapping import Mapping
from recsys_lib.model.requests import requests
from recsys_lib.settings import FeatureSettings
from recsys_lib.tables import closed_window

PLAIN = Mapping.model_validate(
    {"user": "u", "item": "i", "time": {"timestamp": "t"}, "windows": {"history": 1}}
)
SILVER = (
    "key string, user string, item string, type string, time timestamp, `order` bigint, "
    "value double, `window` int, at double"
)
WINDOWS = 4
START = datetime(2020, 1, 1, tzinfo=UTC)
Event = tuple[str, str, float, int]
"""User, item, where on the window axis it happened, and with which increment it came."""


def arrive(lake: Lake, increment: int, events: list[Event]) -> None:
    rows = [
        (item, user, item, "buy", START + timedelta(days=7 * at), None, 1.0, int(at), at)
        for user, item, at, came in events
        if came == increment
    ]
    if rows:
        frame = lake.spark.createDataFrame(rows, SILVER)
        lake.append_once("silver", frame, app="test", version=increment)


def prepared(lake: Lake, events: list[Event]) -> None:
    for window in range(WINDOWS):
        arrive(lake, window, events)
        prepare_window(lake, window, PLAIN, FeatureSettings())


def words(lake: Lake) -> dict[int, str]:
    found = lake.read("vocabulary").where("kind = 'item'").collect()
    return {row["index"]: row["id"] for row in found}


HAPPENED = st.tuples(
    st.integers(0, 11).map(lambda n: f"u{n}"),
    st.integers(0, 4 * WINDOWS - 1).map(lambda quarter: quarter / 4),
    st.integers(0, WINDOWS - 1),
)


@given(told=st.lists(HAPPENED, min_size=60, max_size=90))
@settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_an_event_is_a_target_where_it_was_in_time_and_history_wherever_it_was_known(
    tmp_path_factory: pytest.TempPathFactory, lake: Lake, told: list[tuple[str, float, int]]
) -> None:
    shop = Lake(lake.spark, str(tmp_path_factory.mktemp("law")))
    events = [(user, f"i{n}", at, came) for n, (user, at, came) in enumerate(told)]
    prepared(shop, events)
    names = words(shop)
    targets: dict[str, list[int]] = {}
    for row in shop.read("sequences").orderBy("window", "user").collect():
        window, user = row["window"], row["user"]
        known = {names[i] for i in row["items"][: row["known"]]}
        new = [names[i] for i in row["items"][row["known"] :]]
        in_time = {i: int(at) for u, i, at, came in events if u == user and came <= int(at)}
        late = {i: came for u, i, at, came in events if u == user and came > int(at)}
        assert sorted(new) == sorted(i for i, w in in_time.items() if w == window)
        assert known == {
            *(i for i, w in in_time.items() if w < window),
            *(i for i, came in late.items() if came < window),
        }
        assert list(row["at"][: row["known"]]) == sorted(row["at"][: row["known"]])
    table = shop.read("sequences").toArrow()
    _, asked, rows = requests(table, "next_window")
    lengths = [int(n) for n in asked.offsets[1:] - asked.offsets[:-1]]
    windows = [table["window"][int(r)].as_py() for r in rows for _ in range(1)]
    items = iter(asked.items)
    for window, length in zip(windows, lengths, strict=True):
        for _ in range(length):
            targets.setdefault(names[int(next(items))], []).append(window)
    happened = {item: (int(at), came) for _, item, at, came in events}
    for item, judged in targets.items():
        assert judged == [happened[item][0]], "once, in the window it happened in"
        assert happened[item][1] <= happened[item][0], "and only if it came before it was closed"
    histories = shop.read("histories").collect()
    whole = {names[i] for row in histories for i in row["items"]}
    due = {item for item, (at, came) in happened.items() if max(at, came) < WINDOWS}
    assert whole == due, "in the end everything is known"
    counted = {(r["index"], r["window"]) for r in shop.read("item_counts").collect()}
    assert counted == {(i, max(happened[name])) for i, name in names.items()}


def test_killed_before_it_closes_a_window_of_held_events_is_the_same(lake: Lake) -> None:
    events: list[Event] = [("u", "a", 0.5, 0), ("u", "b", 1.5, 0), ("v", "c", 2.5, 0)]
    arrive(lake, 0, events)
    prepare_window(lake, 0, PLAIN, FeatureSettings())
    mark, lake.mark_read = lake.mark_read, lambda *_, **__: None  # type: ignore[method-assign]
    prepare_window(lake, 1, PLAIN, FeatureSettings())
    lake.mark_read = mark  # type: ignore[method-assign]
    assert closed_window(lake) == 0
    arrive(lake, 2, [("v", "d", 1.7, 2)])
    assert prepare_window(lake, 1, PLAIN, FeatureSettings())["events"] == 1, "b, not d"
    counts = prepare_window(lake, 2, PLAIN, FeatureSettings())
    assert (counts["events"], counts["late"]) == (2, 1), "c was held back, d came late"
    found: dict[str, Any] = {r["user"]: r["items"] for r in lake.read("histories").collect()}
    names = words(lake)
    assert {u: [names[i] for i in items] for u, items in found.items()} == {
        "u": ["a", "b"],
        "v": ["d", "c"],
    }
