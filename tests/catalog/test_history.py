"""Statements may come in any order: the table they make is the same, and so is what was then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pyspark.sql import DataFrame

from recsys_lib.adapters.lake import Lake
from recsys_lib.catalog.attributes import from_events, from_table
from recsys_lib.catalog.history import known_by
from recsys_lib.catalog.recipe import merge_catalog, merge_statements
from recsys_lib.mapping import Mapping, TableMapping

START = datetime(2020, 1, 1, tzinfo=UTC)
TABLE = TableMapping(
    path="items.csv",
    id="sku",
    attributes={"color": "c"},
    updated="t",
    price="p",
    available="on_shelf",
    promotion="promo",
)
MAPPING = Mapping.model_validate(
    {
        "user": "u",
        "item": "i",
        "time": {"timestamp": "t"},
        "windows": {"history": 1},
        "items": TABLE.model_dump(),
    }
)
RAW = "sku string, c string, p string, on_shelf string, promo string, t timestamp"
Said = tuple[str, str | None, str, str, str | None, int]


def table(lake: Lake, rows: list[Said]) -> DataFrame:
    told = [(*row[:-1], START + timedelta(hours=row[-1])) for row in rows]
    return lake.spark.createDataFrame(told, RAW)


def say(lake: Lake, number: int, rows: list[Said]) -> None:
    merge_statements(
        lake, "items", from_table(table(lake, rows), TABLE, "t"), app=f"t{number}", version=0
    )


def shown(lake: Lake) -> dict[str, tuple[Any, ...]]:
    rows = lake.read("items").select("id", "color", "price", "available", "promotion").collect()
    return {row["id"]: tuple(row)[1:] for row in rows}


SAID = st.tuples(
    st.sampled_from("abcdefghij"),
    st.sampled_from(["red", "blue", None]),
    st.sampled_from(["1.5", "2"]),
    st.sampled_from(["true", "false"]),
    st.sampled_from(["sale", None]),
    st.integers(0, 3),
)


@given(said=st.lists(SAID, min_size=40, max_size=60), seed=st.randoms(use_true_random=False))
@settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.generate],
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_any_order_of_updates_ends_with_the_same_table(
    tmp_path_factory: pytest.TempPathFactory, lake: Lake, said: list[Said], seed: Any
) -> None:
    shuffled = list(said)
    seed.shuffle(shuffled)
    ends = []
    for rows in (said, shuffled):
        shop = Lake(lake.spark, str(tmp_path_factory.mktemp("order")))
        for number, start in enumerate(range(0, len(rows), 20)):
            say(shop, number, rows[start : start + 20])
        ends = [*ends, shown(shop)]
    assert ends[0] == ends[1]
    for sku in {row[0] for row in said}:
        newest = max(row[-1] for row in said if row[0] == sku)
        words = {
            (c, float(p), on == "true", promo)
            for s, c, p, on, promo, t in said
            if (s, t) == (sku, newest)
        }
        assert ends[0][sku] in words, "the last writer by source time"


def known(lake: Lake, table: TableMapping, window: int, hour: int | None) -> dict[str, Any]:
    """Colour and price by id, of all that was known at the end of this window, at this hour."""
    ids = lake.read("items_history").select("id").distinct()
    end = None if hour is None else START + timedelta(hours=hour)
    rows = known_by(lake, "items", table, ids, window, end)
    shown = [name for name in ("color", "price") if name in rows.columns]
    return {row["id"]: tuple(row)[1:] for row in rows.select("id", *shown).collect()}


def test_what_is_known_of_a_window_is_what_had_been_said_when_it_ended(lake: Lake) -> None:
    say(lake, 0, [("a", "red", "2", "true", None, 10), ("a", "red", "1", "true", "sale", 20)])
    say(lake, 1, [("a", "blue", "3", "false", None, 15)])
    told = {hour: known(lake, TABLE, 0, hour) for hour in (10, 11, 15, 16, 20, 21)}
    red, blue = {"a": ("red", 2.0)}, {"a": ("blue", 3.0)}
    last = {"a": ("red", 1.0)}
    assert told == {10: {}, 11: red, 15: red, 16: blue, 20: blue, 21: last}
    assert known(lake, TABLE, 0, None) == last, "windows without times know all"


def test_what_events_said_is_known_from_their_window_on(lake: Lake) -> None:
    plain = TableMapping(id="i", attributes={"color": "c"})
    names = "item string, item_attributes array<string>, time timestamp, `window` int"
    rows = [("a", [c], None, w, 0, f"{w}") for w, c in ((1, "old"), (2, "mid"), (4, "late"))]
    told = lake.spark.createDataFrame(rows, f"{names}, `order` bigint, key string")
    merge_statements(lake, "items", from_events(told, plain, "item"), app="t", version=0)
    found = [known(lake, plain, window, None).get("a") for window in range(5)]
    assert found == [None, ("old",), ("mid",), ("mid",), ("late",)]


def test_what_changed_can_be_read_from_the_change_feed(lake: Lake) -> None:
    say(lake, 0, [("a", "red", "2", "true", None, 1), ("b", "red", "2", "true", None, 1)])
    say(lake, 1, [("a", "red", "4", "true", None, 2), ("b", "old", "9", "true", None, 0)])
    feed = lake.spark.read.option("readChangeFeed", "true").option("startingVersion", 1)
    changes = feed.format("delta").load(lake.path("items")).collect()
    assert sorted((r["id"], r["price"], r["_change_type"]) for r in changes) == [
        ("a", 2.0, "update_preimage"),
        ("a", 4.0, "update_postimage"),
    ]


@contextmanager
def killed_before_the_merge(lake: Lake) -> Iterator[None]:
    def dying(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lake, "merge_once", dying)
        with pytest.raises(KeyboardInterrupt):
            yield


def test_killed_after_the_history_the_same_call_finishes_the_merge(lake: Lake) -> None:
    rows: list[Said] = [("a", "red", "2", "true", None, 1)]
    with killed_before_the_merge(lake):
        merge_catalog(lake, 0, MAPPING, lambda _: table(lake, rows), lambda _: "one")
    for _ in range(2):
        merge_catalog(lake, 0, MAPPING, lambda _: table(lake, rows), lambda _: "one")
    assert shown(lake) == {"a": ("red", 2.0, True, None)}
    grown: list[Said] = [*rows, ("a", "red", "3", "true", None, 2)]
    merge_catalog(lake, 1, MAPPING, lambda _: table(lake, grown), lambda _: "two")
    assert shown(lake) == {"a": ("red", 3.0, True, None)}
    assert lake.read("items_history").count() == 2, "what is recorded is not recorded again"


def test_killed_after_the_history_a_call_with_a_newer_file_merges_both(lake: Lake) -> None:
    rows: list[Said] = [("a", "red", "2", "true", None, 1)]
    with killed_before_the_merge(lake):
        merge_catalog(lake, 0, MAPPING, lambda _: table(lake, rows), lambda _: "one")
    grown: list[Said] = [*rows, ("b", "red", "3", "true", None, 2)]
    assert merge_catalog(lake, 1, MAPPING, lambda _: table(lake, grown), lambda _: "two")["items"]
    assert shown(lake) == {"a": ("red", 2.0, True, None), "b": ("red", 3.0, True, None)}
    assert lake.read("items_history").count() == 2


def test_a_table_without_times_holds_as_it_is_since_ever(lake: Lake) -> None:
    plain = MAPPING.model_copy(
        update={"items": TableMapping(path="x", id="sku", attributes={"color": "c"})}
    )
    for fingerprint, rows in (
        ("one", [("a", "red", "", "", None, 0)]),
        ("two", [("a", "blue", "", "", None, 0), ("b", None, "", "", None, 0)]),
    ):
        told: list[Said] = rows  # type: ignore[assignment]
        merge_catalog(lake, 0, plain, lambda _, t=told: table(lake, t), lambda _, f=fingerprint: f)
    assert plain.items is not None
    assert known(lake, plain.items, 0, 0) == {"a": ("blue",), "b": (None,)}


@pytest.mark.parametrize("killed", [False, True])
def test_a_table_that_changes_back_holds_as_it_did_before(lake: Lake, killed: bool) -> None:
    plain = MAPPING.model_copy(
        update={"items": TableMapping(path="x", id="sku", attributes={"color": "c"})}
    )

    def merge(color: str) -> bool:
        rows: list[Said] = [("a", color, "", "", None, 0)]
        return merge_catalog(lake, 0, plain, lambda _: table(lake, rows), lambda _: color)["items"]

    for color in ("red", "blue", "red"):
        if killed:
            with killed_before_the_merge(lake):
                merge(color)
        assert merge(color)
        assert not merge(color)
        assert {row["id"]: row["color"] for row in lake.read("items").collect()} == {"a": color}
    assert lake.read("items_history").count() == 3


def test_a_field_is_standard_or_free_but_not_both() -> None:
    with pytest.raises(ValidationError, match="must differ, got \\['price'\\]"):
        TableMapping(path="x", id="i", attributes={"price": "p"}, price="q")
    with pytest.raises(ValidationError, match="updated needs path"):
        TableMapping(id="i", attributes={"color": "c"}, updated="t")
