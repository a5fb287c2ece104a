"""What each user did, oldest first: first the exam for a window, then its lesson."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_lib.features.neighbours import fold
from recsys_lib.features.vocabulary import lookup

ARRAYS = {"items": "int", "types": "int", "at": "float", "values": "float"}
SCHEMA = (
    "`window` int, user string, items array<int>, types array<int>, at array<float>, "
    "values array<float>, known int, profile array<int>, fold int"
)
HISTORIES = (
    "user string, items array<int>, types array<int>, at array<float>, values array<float>, "
    "profile array<int>"
)


def news(events: DataFrame, vocabulary: DataFrame, max_history: int) -> DataFrame:
    """(user, items, types, at, values): each user's events in (time, order, key) order, capped."""
    items = lookup(vocabulary, "item", "item", "item_index")
    types = lookup(vocabulary, "type", "type", "type_index")
    coded = events.join(items, "item", "left").join(F.broadcast(types), "type", "left")
    event = F.struct(
        "time",
        "window",
        "order",
        "key",
        F.coalesce("item_index", F.lit(0)).alias("items"),
        F.coalesce("type_index", F.lit(0)).alias("types"),
        F.col("at").cast("float").alias("at"),
        F.coalesce(F.col("value").cast("float"), F.lit(0.0)).cast("float").alias("values"),
    )
    told = coded.groupBy("user").agg(F.array_sort(F.collect_list(event)).alias("events"))
    capped = told.select("user", _last("events", max_history).alias("events"))
    return capped.select("user", *(F.col(f"events.{name}").alias(name) for name in ARRAYS))


def sequences(
    fresh: DataFrame, histories: DataFrame, profiles: DataFrame, max_history: int, window: int
) -> DataFrame:
    """SCHEMA, one row per user of `fresh` (see `news`): known events, then the new ones.

    `histories` is the state before, `profiles` (user, profile array<int>) the attributes then.
    """
    before = histories.select(
        "user", *(_last(name, max_history).alias(f"old_{name}") for name in ARRAYS)
    )
    joined = fresh.join(before, "user", "left").join(profiles, "user", "left")
    arrays = [
        F.concat(_or_empty(f"old_{name}", kind), F.col(name)).alias(name)
        for name, kind in ARRAYS.items()
    ]
    known = F.size(_or_empty("old_items", "int")).cast("int")
    return joined.select(
        F.lit(window).cast("int").alias("window"),
        "user",
        *arrays,
        known.alias("known"),
        _or_empty("profile", "int").alias("profile"),
        fold().alias("fold"),
    )


def histories_after(rows: DataFrame, max_history: int) -> DataFrame:
    """HISTORIES: the state after the window of these sequences, to be merged by user."""
    return rows.select(
        "user", *(_last(name, max_history).alias(name) for name in ARRAYS), "profile"
    )


def with_late(
    after: DataFrame, late: DataFrame, histories: DataFrame, profiles: DataFrame, max_history: int
) -> DataFrame:
    """HISTORIES to be merged: `after` (see `histories_after`) with what came late put in its place.

    `late` is like `news`. `histories` is the state before, for users of whom only late events came.
    """
    absent = late.select("user").join(after.select("user"), "user", "left_anti")
    names = [*ARRAYS, "profile"]
    base = after.unionByName(histories.join(absent, "user", "left_semi").select("user", *names))
    told = late.select("user", *(F.col(name).alias(f"late_{name}") for name in ARRAYS))
    people = profiles.select("user", F.col("profile").alias("new_profile"))
    joined = base.join(told, "user", "full").join(people, "user", "left")
    merged = joined.withColumn("events", F.array_sort(F.concat(_told(""), _told("late_"))))
    some_late = F.col("late_items").isNotNull()
    arrays = [
        F.when(some_late, F.col(f"events.{name}")).otherwise(F.col(name)).alias(name)
        for name in ARRAYS
    ]
    profile = F.coalesce("new_profile", "profile", F.array().cast("array<int>"))
    put = merged.select("user", *arrays, profile.alias("profile"))
    return histories_after(put, max_history)


def _told(prefix: str) -> Column:
    """One struct an event, which sorts by time; of equal times the late one comes last."""
    names = [
        F.coalesce(F.col(f"{prefix}{n}"), F.array().cast(f"array<{k}>")).alias(n)
        for n, k in ARRAYS.items()
    ]
    late = F.lit(bool(prefix))
    return F.transform(
        F.arrays_zip(*names),
        lambda it, place: F.struct(
            it["at"].alias("at"),
            late.alias("late"),
            place.alias("place"),
            *(it[name].alias(name) for name in ("items", "types", "values")),
        ),
    )


def _last(name: str, count: int) -> Column:
    it = F.col(name)
    return F.when(F.size(it) > count, F.slice(it, -count, count)).otherwise(it)


def _or_empty(name: str, kind: str) -> Column:
    return F.coalesce(F.col(name), F.array().cast(f"array<{kind}>"))
