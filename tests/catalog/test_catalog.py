from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame

from recsys_lib.adapters.lake import Lake
from recsys_lib.catalog.recipe import merge_catalog
from recsys_lib.errors import SettingsError
from recsys_lib.mapping import Mapping

BASE: dict[str, Any] = {
    "user": "u",
    "item": "i",
    "time": {"timestamp": "t"},
    "windows": {"history": 1},
}
FROM_EVENTS = Mapping.model_validate(
    {**BASE, "items": {"id": "i", "attributes": {"color": "c", "size": "s"}}}
)
FROM_TABLE = Mapping.model_validate(
    {**BASE, "items": {"path": "items.csv", "id": "sku", "attributes": {"color": "c"}}}
)
SILVER = (
    "key string, user string, item string, time timestamp, `window` int, `order` bigint, "
    "item_attributes array<string>, user_attributes array<string>"
)


def no_file(path: str) -> Any:
    raise AssertionError(f"{path} is not to be read")


def arrive(lake: Lake, version: int, *told: tuple[str, int, list[str | None]]) -> None:
    rows = [
        (f"{version}-{n}", "u", item, datetime(2020, 1, day, tzinfo=UTC), 0, None, attributes, None)
        for n, (item, day, attributes) in enumerate(told)
    ]
    frame = lake.spark.createDataFrame(rows, SILVER)
    lake.append_once("silver", frame, app="test", version=version)


def shown(lake: Lake) -> dict[str, tuple[str | None, ...]]:
    rows = lake.read("items").drop("updated").collect()
    return {row["id"]: tuple(row)[1:] for row in rows}


def test_the_latest_word_of_the_events_counts_and_silence_does_not(lake: Lake) -> None:
    arrive(lake, 0, ("a", 2, ["red", "L"]), ("a", 3, ["blue", None]), ("b", 1, [None, None]))
    assert merge_catalog(lake, 0, FROM_EVENTS, no_file, no_file) == {"items": True, "users": False}
    assert shown(lake) == {"a": ("blue", "L"), "b": (None, None)}
    arrive(lake, 1, ("a", 9, [None, "XL"]), ("b", 9, ["green", None]))
    merge_catalog(lake, 1, FROM_EVENTS, no_file, no_file)
    assert shown(lake) == {"a": ("blue", "XL"), "b": ("green", None)}
    arrive(lake, 2, ("a", 1, ["late", "late"]))
    merge_catalog(lake, 2, FROM_EVENTS, no_file, no_file)
    assert shown(lake)["a"] == ("blue", "XL"), "a late event does not overwrite a newer one"
    assert merge_catalog(lake, 2, FROM_EVENTS, no_file, no_file)["items"] is False


def test_a_table_is_read_again_only_when_it_changed(lake: Lake) -> None:
    table = lake.spark.createDataFrame([(1.0, "red"), (2.0, None)], "sku double, c string")
    reads = []

    def read(path: str) -> DataFrame:
        reads.append(path)
        return table

    assert merge_catalog(lake, 0, FROM_TABLE, read, lambda _: "one")["items"]
    assert not merge_catalog(lake, 1, FROM_TABLE, read, lambda _: "one")["items"]
    assert shown(lake) == {"1": ("red",), "2": (None,)}
    table = lake.spark.createDataFrame([(2, "blue"), (3, "red")], "sku int, c string")
    assert merge_catalog(lake, 2, FROM_TABLE, read, lambda _: "two")["items"]
    assert shown(lake) == {"1": ("red",), "2": ("blue",), "3": ("red",)}
    assert len(reads) == 2


def test_a_table_that_lacks_columns_names_them_all(lake: Lake) -> None:
    table = lake.spark.createDataFrame([(1,)], "skuu int")
    with pytest.raises(SettingsError, match=r"(?s)items.csv.*2 faults.*'skuu'.*attributes.color"):
        merge_catalog(lake, 0, FROM_TABLE, lambda _: table, lambda _: "one")
