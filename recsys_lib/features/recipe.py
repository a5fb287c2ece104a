"""Silver -> vocabulary, item counts, sequences and histories of one window."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.features import counts, neighbours, sequences, vocabulary
from recsys_lib.mapping import Mapping, TableMapping
from recsys_lib.settings import FeatureSettings
from recsys_lib.tables import Lake

READER = "features"
EVENT = ("key", "user", "item", "type", "time", "order", "value", "window", "at")


def prepare_window(
    lake: Lake, window: int, mapping: Mapping, settings: FeatureSettings
) -> dict[str, int]:
    """Turn the silver rows that came since the last call into features named `window`.

    Counts: {"events", "users", "known_users", "new_items", "new_users"}. Each table is written
    once per window; a window that was prepared before answers from the ledger, and one without
    events writes nothing.
    """
    closed = lake.ledger.recorded("silver", READER, window)
    if closed is not None:
        return dict(closed["counts"])
    fresh = lake.next_increment("silver", READER)
    if fresh is None or not fresh.rows:
        found = dict.fromkeys(("events", "users", "known_users", "new_items", "new_users"), 0)
    else:
        events = lake.read(fresh).select(*EVENT).persist()
        try:
            _write(lake, events, window, mapping, settings)
        finally:
            events.unpersist()
        found = {"events": fresh.rows, **_counts(lake, window)}
        # The table changes in place: who asks about an earlier window reads this version.
        found = {**found, "neighbours_version": lake.version("neighbours")}
    if fresh is not None:
        lake.mark_read(fresh, READER, window=window, counts=found)
    return found


def neighbours_before(lake: Lake, window: int) -> int | None:
    """Version of the table `neighbours` as it was when `window` began; None: nothing was near."""
    closed = [r for r in lake.ledger.rows("silver", READER) if r["state"] == "read"]
    known = [r for r in closed if r["window"] < window and "neighbours_version" in r["counts"]]
    if not known:
        return None
    return int(max(known, key=lambda row: row["window"])["counts"]["neighbours_version"])


def _write(
    lake: Lake, events: DataFrame, window: int, mapping: Mapping, settings: FeatureSettings
) -> None:
    """Order matters: each table is computed from those before it, and histories come last."""
    once: dict[str, Any] = {"app": READER, "version": window}
    if not lake.done("vocabulary", **once):
        lake.append_once("vocabulary", _new_ids(lake, events, window, mapping), **once)
    words = lake.read("vocabulary").persist()
    try:
        if not lake.done("item_features", **once):
            lake.append_once("item_features", _item_features(lake, words, window, mapping), **once)
        if not lake.done("item_counts", **once):
            rows = counts.item_counts(events, words, mapping.targets).repartition("window")
            lake.append_once("item_counts", rows, partition_by=("window",), **once)
        if not lake.done("sequences", **once):
            rows = _sequences(lake, events, words, window, mapping, settings.max_history)
            lake.append_once("sequences", rows, partition_by=("window",), **once)
        if not lake.done("neighbours", **once):
            _merge_neighbours(lake, events, words, window, settings)
    finally:
        words.unpersist()
    if not lake.done("histories", **once):
        mine = lake.read("sequences").where(F.col("window") == window)
        rows = sequences.histories_after(mine, settings.max_history)
        lake.merge_once("histories", rows, on=["user"], **once)


def _merge_neighbours(
    lake: Lake, events: DataFrame, words: DataFrame, window: int, settings: FeatureSettings
) -> None:
    before = _or_empty(lake, "neighbours", neighbours.SCHEMA)
    fresh = neighbours.pairs(events, words, settings.neighbour_distance).persist()
    try:
        rows = neighbours.neighbours_after(before, fresh, window, settings)
        lake.merge_once("neighbours", rows, on=["item", "fold"], app=READER, version=window)
    finally:
        fresh.unpersist()


def _item_features(lake: Lake, words: DataFrame, window: int, mapping: Mapping) -> DataFrame:
    names = _names(mapping.items)
    new = words.where((F.col("kind") == "item") & (F.col("window") == window))
    rows = _attributes(lake, "items", new.select("id", "index"), names)
    coded = vocabulary.encode(rows, words, "item", names, "attributes")
    return coded.select("index", "attributes", F.lit(window).alias("window"))


def _sequences(
    lake: Lake,
    events: DataFrame,
    words: DataFrame,
    window: int,
    mapping: Mapping,
    max_history: int,
) -> DataFrame:
    names = _names(mapping.users)
    users = events.select(F.col("user").alias("id")).distinct()
    people = _attributes(lake, "users", users, names)
    profiles = vocabulary.encode(people, words, "user", names, "profile")
    return sequences.sequences(
        sequences.news(events, words, max_history),
        _or_empty(lake, "histories", sequences.HISTORIES),
        profiles.withColumnRenamed("id", "user"),
        max_history,
        window,
    )


def _new_ids(lake: Lake, events: DataFrame, window: int, mapping: Mapping) -> DataFrame:
    words = _or_empty(lake, "vocabulary", vocabulary.SCHEMA)
    seen = vocabulary.seen_in_events(events)
    for who, table, name in (("item", mapping.items, "items"), ("user", mapping.users, "users")):
        names = _names(table)
        if names and lake.exists(name):
            ids = events.select(F.col(who).alias("id")).distinct()
            present = lake.read(name).join(ids, "id", "left_semi")
            seen = seen.unionByName(vocabulary.seen_in_catalog(present, who, names))
    return vocabulary.grow(seen, words, window)


def _attributes(lake: Lake, table: str, ids: DataFrame, names: list[str]) -> DataFrame:
    """`ids` with the catalogue's attribute columns; null where it does not know the id."""
    if not names:
        return ids
    if lake.exists(table):
        return ids.join(lake.read(table).select("id", *names), "id", "left")
    return ids.withColumns({name: F.lit(None).cast("string") for name in names})


def _counts(lake: Lake, window: int) -> dict[str, int]:
    mine = F.col("window") == window
    users = (
        lake.read("sequences")
        .where(mine)
        .agg(F.count(F.lit(1)).alias("users"), F.count_if(F.col("known") > 0).alias("known_users"))
    )
    kinds = lake.read("vocabulary").where(mine).groupBy("kind").count().collect()
    new = {row["kind"]: row["count"] for row in kinds}
    found = users.collect()[0].asDict()
    return {**found, "new_items": new.get("item", 0), "new_users": new.get("user", 0)}


def _or_empty(lake: Lake, table: str, schema: str) -> DataFrame:
    return lake.read(table) if lake.exists(table) else lake.spark.createDataFrame([], schema)


def _names(table: TableMapping | None) -> list[str]:
    return list(table.attributes) if table is not None else []
