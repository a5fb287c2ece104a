"""`items_history` and `users_history`: every statement, appended; what holds follows from them."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_lib.tables import Lake


def columns_of(rows: DataFrame) -> list[str]:
    """The columns that statements are about."""
    return [c for c in rows.columns if c not in ("id", "updated") and not c.startswith("_")]


def current(history: DataFrame) -> DataFrame:
    """(id, columns, updated): of each column the last word by source time.

    A function of the set of statements alone: whatever the order they came in, the same rows.
    """
    latest = [
        # max_by passes over rows whose order is null
        F.max_by(F.col(f"`{name}`"), F.when(_spoken(name), F.col("_rank"))).alias(name)
        for name in columns_of(history)
    ]
    return history.groupBy("id").agg(*latest, F.max("updated").alias("updated"))


def as_of(lake: Lake, table: str, events: DataFrame, time_column: str) -> DataFrame:
    """`events` with `item_<name>` (or `user_<name>`) for every column of `table`, as it was then.

    `table` is "items" or "users"; `events` have a column "item" or "user". A statement holds from
    its source time on, one without a time since ever; before the first one all is null. One sort
    by id and time: the rows of `events` stay as many as they were.
    """
    who = table.removesuffix("s")
    history = lake.read(f"{table}_history")
    names = columns_of(history)
    said = history.withColumnsRenamed({"updated": "_at"}).withColumn("_row", F.lit(None))
    asked = events.select(
        F.col(who).alias("id"),
        F.col(time_column).cast("timestamp").alias("_at"),
        F.struct("*").alias("_row"),
    )
    kind = asked.schema["_row"].dataType
    both = said.withColumn("_row", F.col("_row").cast(kind)).unionByName(
        asked, allowMissingColumns=True
    )
    in_time = Window.partitionBy("id").orderBy(
        F.col("_at").asc_nulls_first(), F.col("_row").isNotNull(), "_rank"
    )
    so_far = in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    words = [
        F.last(F.when(_spoken(name), F.struct(F.col(f"`{name}`").alias("it"))), True)
        .over(so_far)["it"]
        .alias(f"{who}_{name}")
        for name in names
    ]
    return (
        both.select("_row", *words).where("_row IS NOT NULL").select("_row.*", *_named(who, names))
    )


def _spoken(name: str) -> Column:
    return F.col("_whole") | F.col(f"`{name}`").isNotNull()


def _named(who: str, names: list[str]) -> list[Column]:
    return [F.col(f"`{who}_{name}`") for name in names]
