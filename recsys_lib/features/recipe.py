"""Silver -> vocabulary, item counts, sequences and histories of one window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.features import counts, neighbours, returns, sequences, vitals, vocabulary
from recsys_lib.features.arrivals import Arrivals, arrivals
from recsys_lib.mapping import Mapping, TableMapping
from recsys_lib.settings import FeatureSettings
from recsys_lib.tables import FEATURES as READER
from recsys_lib.tables import Lake, closed_window, side_by_side

COUNTS = ("events", "late", "users", "known_users", "new_items", "new_users")
EVENT = ("key", "user", "item", "type", "time", "order", "value", "window", "at")


class Known(Protocol):
    """Rows of "items" or "users" for the `id` of `ids`, as they were known when `window` ended."""

    def __call__(self, table: str, ids: DataFrame, window: int) -> DataFrame: ...


@dataclass(frozen=True)
class _Closing:
    """A window that is being closed: what came for it, and by what it is read."""

    lake: Lake
    came: Arrivals
    window: int
    mapping: Mapping
    settings: FeatureSettings
    known: Known

    @property
    def on_time(self) -> DataFrame:
        events = self.came.events
        return events.where(~F.col("late")) if self.came.some_late else events

    @property
    def once(self) -> dict[str, Any]:
        """Every table is written by this, once."""
        return {"app": READER, "version": self.window}


def prepare_window(
    lake: Lake,
    window: int,
    mapping: Mapping,
    settings: FeatureSettings,
    known: Known | None = None,
) -> dict[str, int]:
    """Turn the silver rows that came since the last call into features named `window`.

    Attributes are those that were `known` then; without it, as they are now.

    Counts: {"events", "late", "users", "known_users", "new_items", "new_users"}. Each table is
    written once per window; a window that was prepared before answers from the ledger, and one
    without events writes nothing. From now on the window is closed (see `features.arrivals`).
    """
    closed = lake.ledger.recorded("silver", READER, window)
    if closed is not None:
        return dict(closed["counts"])
    came = arrivals(lake, window)
    found = dict.fromkeys(COUNTS, 0)
    if came is None:
        return found
    came = replace(came, events=came.events.select(*EVENT, "late"))
    closing = _Closing(lake, came, window, mapping, settings, known or _as_now(lake))
    events = came.events.persist()
    try:
        told = events.agg(F.count(F.lit(1)).alias("events"), F.count_if("late").alias("late"))
        found = {**found, **told.collect()[0].asDict()}
        if found["events"]:
            _write(closing)
    finally:
        events.unpersist()
    if found["events"]:
        _write_histories(closing)
        found = {**found, **_counts(lake, window)}
    lake.mark_read(came.increment, READER, window=window, counts=found)
    return found


def _as_now(lake: Lake) -> Known:
    def at(table: str, ids: DataFrame, window: int) -> DataFrame:  # noqa: ARG001
        return lake.read(table).join(ids, "id", "left_semi")

    return at


def _write(it: _Closing) -> None:
    """Histories come last: until then they end where these events begin, also after a crash."""
    _once(it, "vocabulary", lambda: _new_ids(it))
    words = it.lake.read("vocabulary").persist()

    def counted() -> None:
        _once(it, "item_counts", lambda: _item_counts(it, words), partition_by=["window"])
        _once(it, "vitals", lambda: _vitals(it))

    def in_sequence() -> None:
        _once(it, "sequences", lambda: _sequences(it, words), partition_by=["window"])
        _once(it, "item_returns", lambda: _item_returns(it, words), partition_by=["window"])

    def near() -> None:
        _once(it, "neighbours", lambda: _neighbours(it, words), partition_by=["base", "window"])

    try:
        side_by_side(
            near,
            in_sequence,
            lambda: _once(it, "item_features", lambda: _item_features(it, words)),
            counted,
        )
    finally:
        words.unpersist()


def _once(
    it: _Closing, table: str, rows: Callable[[], DataFrame], partition_by: Sequence[str] = ()
) -> None:
    if not it.lake.done(table, **it.once):
        it.lake.append_once(table, rows(), partition_by=partition_by, **it.once)


def _write_histories(it: _Closing) -> None:
    """Nothing is cached here: a MERGE reads its source more than once and insists on the tables."""
    lake, most = it.lake, it.settings.max_history
    if lake.done("histories", **it.once):
        return
    mine = lake.read("sequences").where(F.col("window") == it.window)
    words = lake.read("vocabulary")
    if _names(it.mapping.users):
        profiles = _profiles(it, mine, words, it.known)
        mine = mine.drop("profile").join(profiles, "user")
    rows = sequences.histories_after(mine, most)
    if it.came.some_late:
        late = it.came.events.where("late")
        rows = sequences.with_late(
            rows,
            sequences.news(late, words, most),
            _or_empty(lake, "histories", sequences.HISTORIES),
            _profiles(it, late, words, it.known),
            most,
        )
    lake.merge_once("histories", rows, on=["user"], **it.once)


def _neighbours(it: _Closing, words: DataFrame) -> DataFrame:
    lake, window, settings = it.lake, it.window, it.settings
    written = [(int(p["base"]), int(p["window"])) for p in lake.partitions("neighbours")]
    base, before = neighbours.base_of(window, written), None
    if written:
        before = lake.read("neighbours").where(F.col("base") == max(written)[0])
    events = neighbours.coded(it.came.events, words)
    if lake.exists("histories"):
        known = lake.read("histories")
        events = neighbours.after_known(events, known, settings.neighbour_distance)
    rows = neighbours.neighbours_after(before, events, window, settings, whole=base == window)
    return rows.withColumn("base", F.lit(base)).hint("rebalance")


def _item_features(it: _Closing, words: DataFrame) -> DataFrame:
    """New items, and those of these events whose attributes are not what was told of them last.

    Items without an event are not compared, so that this does not grow with the catalogue.
    """
    lake, window, names = it.lake, it.window, _names(it.mapping.items)
    items = words.where(F.col("kind") == "item")
    told = bool(names) and lake.exists("item_features")
    if told:  # the new ones are among these
        came = it.came.events.select(F.col("item").alias("id")).distinct()
        items = items.join(came, "id", "left_semi")
    else:
        items = items.where(F.col("window") == window)
    rows = _attributes(it, "items", items.select("id", "index"), names, it.known)
    coded = vocabulary.encode(rows, words, "item", names, "attributes")
    if told:
        before = lake.read("item_features").join(items, "index", "left_semi")
        coded = _changed(coded, before)
    return coded.select("index", "attributes", F.lit(window).alias("window"))


def _changed(coded: DataFrame, told: DataFrame) -> DataFrame:
    """Those of `coded` (index, attributes, ...) of which `told` says something else, or nothing."""
    last = told.groupBy("index").agg(F.max_by("attributes", "window").alias("last"))
    differs = ~F.col("attributes").eqNullSafe(F.col("last"))
    return coded.join(last, "index", "left").where(differs)


def _item_counts(it: _Closing, words: DataFrame) -> DataFrame:
    came = it.came
    seen = counts.as_known(came.events, it.window) if came.some_late else came.events
    return counts.item_counts(seen, words, it.mapping.targets).repartition("window")


def _vitals(it: _Closing) -> DataFrame:
    closed = closed_window(it.lake)
    first = -(2**31) if closed is None else closed + 1
    recent = it.lake.read("item_counts").where(F.col("window") >= first - vitals.FAMILIAR)
    return vitals.vitals(it.on_time, recent, (first, it.window))


def _sequences(it: _Closing, words: DataFrame) -> DataFrame:
    most = it.settings.max_history
    return sequences.sequences(
        sequences.news(it.on_time, words, most),
        _or_empty(it.lake, "histories", sequences.HISTORIES),
        _profiles(it, it.on_time, words, _at_start(it.known)),
        most,
        it.window,
    )


def _item_returns(it: _Closing, words: DataFrame) -> DataFrame:
    mine = it.lake.read("sequences").where(F.col("window") == it.window)
    types = vocabulary.indices(words, "type", it.mapping.targets)
    return returns.item_returns(mine, types).repartition("window")


def _at_start(known: Known) -> Known:
    """As it was known when the window began; of whom nothing was, as it came with them."""

    def at(table: str, ids: DataFrame, window: int) -> DataFrame:
        before = known(table, ids, window - 1)
        new = known(table, ids, window).join(before.select("id"), "id", "left_anti")
        return before.unionByName(new, allowMissingColumns=True)

    return at


def _profiles(it: _Closing, events: DataFrame, words: DataFrame, known: Known) -> DataFrame:
    """(user, profile): the attributes of the users of `events` as they are `known`."""
    names = _names(it.mapping.users)
    users = events.select(F.col("user").alias("id")).distinct()
    people = _attributes(it, "users", users, names, known)
    profiles = vocabulary.encode(people, words, "user", names, "profile")
    return profiles.withColumnRenamed("id", "user")


def _new_ids(it: _Closing) -> DataFrame:
    lake, window, mapping, events = it.lake, it.window, it.mapping, it.came.events
    words = _or_empty(lake, "vocabulary", vocabulary.SCHEMA)
    seen = vocabulary.seen_in_events(events)
    for who, table, name in (("item", mapping.items, "items"), ("user", mapping.users, "users")):
        names = _names(table)
        if names and lake.exists(name):
            ids = events.select(F.col(who).alias("id")).distinct()
            present = it.known(name, ids, window)
            seen = seen.unionByName(vocabulary.seen_in_catalog(present, who, names))
    return vocabulary.grow(seen, words, window)


def _attributes(
    it: _Closing, table: str, ids: DataFrame, names: list[str], known: Known
) -> DataFrame:
    """`ids` with the catalogue's attribute columns; null where it does not know the id."""
    if not names:
        return ids
    if it.lake.exists(table):
        rows = known(table, ids.select("id"), it.window).select("id", *names)
        return ids.join(rows, "id", "left")
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
