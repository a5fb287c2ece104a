from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from numpy.testing import assert_equal
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.shards import CatalogReader
from recsys_lib.features import neighbours
from recsys_lib.features.recipe import prepare_window
from recsys_lib.features.vocabulary import SCHEMA, encode, grow
from recsys_lib.mapping import Mapping
from recsys_lib.model.neighbours import Neighbours
from recsys_lib.settings import FeatureSettings

MAPPING = Mapping.model_validate(
    {
        "user": "u",
        "item": "i",
        "time": {"timestamp": "t"},
        "windows": {"history": 1},
        "targets": ["buy"],
        "items": {"path": "x", "id": "i", "attributes": {"color": "c", "size": "s"}},
        "users": {"path": "y", "id": "u", "attributes": {"age": "a"}},
    }
)
PLAIN = Mapping.model_validate(
    {"user": "u", "item": "i", "time": {"period": "p"}, "windows": {"history": 1}}
)
SILVER = (
    "key string, user string, item string, type string, time timestamp, `order` bigint, "
    "value double, `window` int, at double"
)
SEEN = "kind string, id string, first_time timestamp, first_window int"
START = datetime(2020, 1, 1, tzinfo=UTC)


def arrive(lake: Lake, version: int, *told: tuple[Any, ...]) -> None:
    """Rows of (user, item, type, hour, value); a week is 168 hours."""
    rows = [
        (f"{version}-{n}", u, i, kind, START + timedelta(hours=h), None, v, h // 168, h / 168)
        for n, (u, i, kind, h, v) in enumerate(told)
    ]
    frame = lake.spark.createDataFrame(rows, SILVER)
    lake.append_once("silver", frame, app="test", version=version)


def rows_of(frame: DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in frame.select(*columns).collect())


@pytest.fixture
def shop(lake: Lake) -> Lake:
    """Two weeks of history; item c and user v are not in the catalogue."""
    spark = lake.spark
    items = spark.createDataFrame(
        [("a", "red", None), ("b", "blue", "L"), ("z", "pink", "XL")],
        "id string, color string, size string",
    )
    users = spark.createDataFrame([("u", "old"), ("q", "young")], "id string, age string")
    lake.merge_once("items", items, on=["id"], app="t", version=0)
    lake.merge_once("users", users, on=["id"], app="t", version=0)
    arrive(
        lake,
        0,
        ("u", "b", "buy", 0, 2.0),
        ("u", "a", "view", 200, None),
        ("v", "b", "buy", 1, 4.0),
        ("u", "c", "buy", 3, 1.0),
    )
    return lake


def test_a_window_becomes_vocabulary_counts_sequences_and_histories(shop: Lake) -> None:
    counts = prepare_window(shop, 1, MAPPING, FeatureSettings())
    assert counts == {
        "events": 4,
        "late": 0,
        "users": 2,
        "known_users": 0,
        "new_items": 3,
        "new_users": 2,
    }
    assert rows_of(shop.read("vocabulary"), "kind", "index", "id") == [
        ("item", 1, "b"),
        ("item", 2, "c"),
        ("item", 3, "a"),
        ("item.color", 1, "blue"),
        ("item.color", 2, "red"),
        ("item.size", 1, "L"),
        ("type", 1, "buy"),
        ("type", 2, "view"),
        ("user", 1, "u"),
        ("user", 2, "v"),
        ("user.age", 1, "old"),
    ]
    assert rows_of(shop.read("item_features"), "index", "attributes", "window") == [
        (1, [1, 1], 1),
        (2, [0, 0], 1),
        (3, [2, 0], 1),
    ]
    assert rows_of(shop.read("item_counts"), "window", "index", "events", "users", "value") == [
        (0, 1, 2, 2, 3.0),
        (0, 2, 1, 1, 1.0),
    ]
    found = rows_of(
        shop.read("sequences"), "user", "window", "items", "types", "values", "known", "profile"
    )
    assert found == [
        ("u", 1, [1, 2, 3], [1, 1, 2], [2.0, 1.0, 0.0], 0, [1]),
        ("v", 1, [1], [1], [4.0], 0, [0]),
    ]
    (at,) = shop.read("sequences").where("user = 'u'").select("at").collect()[0]
    assert at == pytest.approx([0.0, 3 / 168, 200 / 168])


def test_the_next_window_starts_from_what_is_known(shop: Lake) -> None:
    prepare_window(shop, 1, MAPPING, FeatureSettings())
    arrive(shop, 1, ("u", "d", "buy", 400, 1.0), ("w", "a", "buy", 401, 1.0))
    counts = prepare_window(shop, 2, MAPPING, FeatureSettings())
    assert counts == {
        "events": 2,
        "late": 0,
        "users": 2,
        "known_users": 1,
        "new_items": 1,
        "new_users": 1,
    }
    mine = shop.read("sequences").where("window = 2")
    assert rows_of(mine, "user", "items", "known") == [("u", [1, 2, 3, 4], 3), ("w", [3], 0)]
    assert rows_of(shop.read("histories"), "user", "items") == [
        ("u", [1, 2, 3, 4]),
        ("v", [1]),
        ("w", [3]),
    ]


def told_of_items(lake: Lake, version: int, *rows: tuple[str, str | None, str | None]) -> None:
    frame = lake.spark.createDataFrame(list(rows), "id string, color string, size string")
    lake.merge_once("items", frame, on=["id"], app="t", version=version)


def test_attributes_that_came_late_or_were_corrected_are_told_with_the_next_event(
    shop: Lake,
) -> None:
    prepare_window(shop, 1, MAPPING, FeatureSettings())
    told_of_items(shop, 1, ("c", "green", "L"), ("b", "red", "L"), ("z", "white", "XL"))
    arrive(shop, 1, ("u", "c", "buy", 400, 1.0), ("w", "a", "buy", 401, 1.0))
    prepare_window(shop, 2, MAPPING, FeatureSettings())
    arrive(shop, 2, ("u", "b", "buy", 600, 1.0), ("w", "c", "buy", 601, 1.0))
    prepare_window(shop, 3, MAPPING, FeatureSettings())
    later = shop.read("item_features").where("window > 1")
    assert rows_of(later, "window", "index", "attributes") == [(2, 2, [3, 1]), (3, 1, [2, 1])]
    colors = shop.read("vocabulary").where("kind = 'item.color'")
    assert rows_of(colors, "window", "id") == [(1, "blue"), (1, "red"), (2, "green")]


def test_an_attribute_that_goes_back_is_told_again_and_a_withdrawn_one_is_unknown(
    shop: Lake,
) -> None:
    prepare_window(shop, 1, MAPPING, FeatureSettings())
    for window, color in ((2, "red"), (3, "blue"), (4, None)):
        told_of_items(shop, window, ("b", color, "L"))
        arrive(shop, window, ("u", "b", "buy", 168 * window, 1.0))
        prepare_window(shop, window, MAPPING, FeatureSettings())
    mine = shop.read("item_features").where("index = 1")
    assert rows_of(mine, "window", "attributes") == [
        (1, [1, 1]),
        (2, [2, 1]),
        (3, [1, 1]),
        (4, [0, 1]),
    ]


def test_preparing_twice_writes_once(shop: Lake) -> None:
    first = prepare_window(shop, 1, MAPPING, FeatureSettings())
    tables = (
        *("vocabulary", "item_features", "item_counts", "sequences"),
        *("item_returns", "histories"),
    )
    before = {name: shop.version(name) for name in tables}
    assert prepare_window(shop, 1, MAPPING, FeatureSettings()) == first
    assert {name: shop.version(name) for name in tables} == before


@pytest.mark.parametrize("victim", ["item_counts", "sequences", "item_returns", "histories"])
def test_killed_anywhere_the_same_tables_come_out(shop: Lake, victim: str) -> None:
    class KilledError(Exception):
        pass

    append, merge = shop.append_once, shop.merge_once

    def dying(write: Any) -> Any:
        def once(table: str, rows: DataFrame, **told: Any) -> bool:
            if table == victim:
                raise KilledError
            return bool(write(table, rows, **told))

        return once

    shop.append_once, shop.merge_once = dying(append), dying(merge)  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        prepare_window(shop, 1, MAPPING, FeatureSettings())
    shop.append_once, shop.merge_once = append, merge  # type: ignore[method-assign]
    prepare_window(shop, 1, MAPPING, FeatureSettings())
    assert rows_of(shop.read("sequences"), "user", "items") == [("u", [1, 2, 3]), ("v", [1])]
    assert rows_of(shop.read("histories"), "user", "items") == [("u", [1, 2, 3]), ("v", [1])]
    assert shop.read("vocabulary").count() == 11
    assert shop.read("item_counts").count() == 2


def test_killed_after_changed_attributes_were_told_they_are_told_once(shop: Lake) -> None:
    prepare_window(shop, 1, MAPPING, FeatureSettings())
    told_of_items(shop, 1, ("c", "green", "L"))
    arrive(shop, 1, ("u", "c", "buy", 400, 1.0))
    append = shop.append_once

    def dying(table: str, rows: DataFrame, **told: Any) -> bool:
        if table == "item_counts":
            raise InterruptedError
        return append(table, rows, **told)

    shop.append_once = dying  # type: ignore[method-assign]
    with pytest.raises(InterruptedError):
        prepare_window(shop, 2, MAPPING, FeatureSettings())
    shop.append_once = append  # type: ignore[method-assign]
    prepare_window(shop, 2, MAPPING, FeatureSettings())
    mine = shop.read("item_features").where("index = 2")
    assert rows_of(mine, "window", "attributes") == [(1, [0, 0]), (2, [3, 1])]


def test_an_event_is_near_those_of_earlier_increments_though_the_job_was_killed(
    shop: Lake,
) -> None:
    plain = FeatureSettings(neighbour_decay=1.0)
    prepare_window(shop, 1, MAPPING, plain)
    arrive(shop, 1, ("u", "d", "buy", 400, 1.0))
    merge = shop.merge_once

    def dying(table: str, rows: DataFrame, **told: Any) -> bool:
        if table == "histories":
            raise InterruptedError
        return merge(table, rows, **told)

    shop.merge_once = dying  # type: ignore[method-assign]
    with pytest.raises(InterruptedError):
        prepare_window(shop, 2, MAPPING, plain)
    shop.merge_once = merge  # type: ignore[method-assign]
    prepare_window(shop, 2, MAPPING, plain)
    near = {
        row["item"]: [(pair["item"], round(pair["weight"], 3)) for pair in row["near"]]
        for row in shop.read("neighbours").orderBy("window").collect()
    }
    assert near == {
        1: [(2, 1.0), (3, 0.5), (4, 0.333)],
        2: [(1, 1.0), (3, 1.0), (4, 0.5)],
        3: [(2, 1.0), (4, 1.0), (1, 0.5)],
        4: [(3, 1.0), (2, 0.5), (1, 0.333)],
    }


def test_what_a_window_says_of_its_users_is_no_part_of_its_exam(shop: Lake) -> None:
    """But of a user of whom nothing was known before, and of the histories after it."""
    said = shop.spark.createDataFrame(
        [("u", "old", 1), ("u", "older", 2), ("w", "new", 2)], "id string, age string, `window` int"
    )

    def known(table: str, ids: DataFrame, window: int) -> DataFrame:
        if table == "items":
            return shop.read(table).join(ids, "id", "left_semi")
        last = F.max_by("age", "window").alias("age")
        rows = said.where(F.col("window") <= window).groupBy("id").agg(last)
        return rows.join(ids, "id", "left_semi")

    prepare_window(shop, 1, MAPPING, FeatureSettings(), known)
    arrive(shop, 1, ("u", "d", "buy", 400, 1.0), ("w", "a", "buy", 401, 1.0))
    prepare_window(shop, 2, MAPPING, FeatureSettings(), known)
    words = {(r["kind"], r["id"]): r["index"] for r in shop.read("vocabulary").collect()}
    old, older, new = (words["user.age", age] for age in ("old", "older", "new"))
    mine = shop.read("sequences").where("window = 2")
    assert rows_of(mine, "user", "profile") == [("u", [old]), ("w", [new])]
    assert rows_of(shop.read("histories").where("user <> 'v'"), "user", "profile") == [
        ("u", [older]),
        ("w", [new]),
    ]


def near_before(lake: Lake, window: int) -> Neighbours:
    """What a model is told of neighbours when this window begins."""
    tables = {name: lake.version(name) for name in ("vocabulary", "item_counts", "neighbours")}
    decay = FeatureSettings().neighbour_decay
    told = CatalogReader(lake.root, tables, window, 0, (), (), neighbour_decay=decay)().neighbours
    assert told is not None
    return told


def test_what_was_near_when_a_window_began_is_told_the_same_ever_after(
    shop: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "WINDOWS_OF_A_BASE", 2)
    told = []
    for window in (1, 2, 3):
        if window > 1:
            arrive(shop, window, ("v", "cd"[window % 2], "buy", 168 * window, 1.0))
        prepare_window(shop, window, PLAIN, FeatureSettings())
        told.append(near_before(shop, window + 1))
    assert sorted(p["base"] for p in shop.partitions("neighbours")) == ["1", "1", "3"]
    for before, seen in enumerate(told, start=2):
        again = near_before(shop, before)
        assert_equal((again.items, again.share), (seen.items, seen.share))
    masses = [seen.mass[0].sum() for seen in told]
    assert masses[0] < masses[1] < masses[2], "a new base keeps what it stands for"


def test_only_the_last_events_are_kept(shop: Lake) -> None:
    short = FeatureSettings(max_history=2)
    prepare_window(shop, 1, MAPPING, short)
    arrive(shop, 1, ("u", "b", "buy", 400, 1.0))
    prepare_window(shop, 2, MAPPING, short)
    mine = shop.read("sequences").where("window = 2")
    assert rows_of(mine, "items", "known") == [([2, 3, 1], 2)]
    assert rows_of(shop.read("histories").where("user = 'u'"), "items") == [([3, 1],)]


def test_periods_without_times_are_ordered_by_order(lake: Lake) -> None:
    rows = [("k2", "s", "x", 2), ("k1", "s", "y", 1), ("k3", "s", "x", 3)]
    silver = lake.spark.createDataFrame(
        rows, "key string, user string, item string, `order` bigint"
    )
    silver = silver.selectExpr(
        "*", "'view' AS type", "CAST(null AS timestamp) AS time", "CAST(null AS double) AS value",
        "5 AS window", "5D AS at",
    )  # fmt: skip
    lake.append_once("silver", silver, app="test", version=0)
    prepare_window(lake, 5, PLAIN, FeatureSettings())
    (row,) = lake.read("sequences").collect()
    x, y = 1, 2  # of one window: by id
    assert (row["items"], row["at"], row["profile"]) == ([y, x, x], [5.0] * 3, [])


def test_an_empty_window_writes_nothing(lake: Lake) -> None:
    assert prepare_window(lake, 3, PLAIN, FeatureSettings())["events"] == 0
    lake.append_once("silver", lake.spark.createDataFrame([], SILVER), app="test", version=0)
    assert prepare_window(lake, 3, PLAIN, FeatureSettings())["users"] == 0
    assert not lake.exists("sequences")


def test_indices_are_dense_and_never_change(spark: SparkSession) -> None:
    none = spark.createDataFrame([], SCHEMA)
    first = [("item", "b", START, 0), ("item", "a", START, 0), ("type", "x", None, None)]
    words = grow(spark.createDataFrame(first, SEEN), none, 0)
    assert rows_of(words, "kind", "id", "index") == [
        ("item", "a", 1),
        ("item", "b", 2),
        ("type", "x", 1),
    ]
    again = [
        ("item", "b", START, 0),
        ("item", "0", START, 0),
        ("item", "c", START - timedelta(1), 0),
    ]
    new = grow(spark.createDataFrame(again, SEEN), words, 1)
    assert rows_of(new, "kind", "id", "index", "window") == [
        ("item", "0", 4, 1),
        ("item", "c", 3, 1),
    ]


def test_unknown_attribute_values_are_zero(spark: SparkSession) -> None:
    words = spark.createDataFrame([("item.c", "red", 7, 0)], SCHEMA)
    rows = spark.createDataFrame([("a", "red"), ("b", "new"), ("c", None)], "id string, c string")
    assert rows_of(encode(rows, words, "item", ["c"], "codes"), "id", "codes") == [
        ("a", [7]),
        ("b", [0]),
        ("c", [0]),
    ]
