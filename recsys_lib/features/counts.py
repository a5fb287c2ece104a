"""How often each item was wanted, window by window."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.features.vocabulary import lookup


def item_counts(events: DataFrame, vocabulary: DataFrame, targets: tuple[str, ...]) -> DataFrame:
    """(window, index, events, users, value) of silver rows of the target types (empty: all).

    `window` is when the event was known: its own, or for a late one that of its increment (see
    `as_known`). So a window may get rows more than once, and readers sum `events` and `users`;
    `value` is the mean over this row's events, 0 if unknown.
    """
    wanted = events.where(F.col("type").isin(*targets)) if targets else events
    coded = wanted.join(lookup(vocabulary, "item", "item", "index"), "item")
    counted = coded.groupBy("window", "index").agg(
        F.count(F.lit(1)).alias("events"),
        F.count_distinct("user").alias("users"),
        F.coalesce(F.avg("value"), F.lit(0.0)).alias("value"),
    )
    return counted.select("window", "index", "events", "users", "value")


def as_known(events: DataFrame, window: int) -> DataFrame:
    """Late events counted in the window they came with: before it nobody could know of them."""
    known = F.when(F.col("late"), F.lit(window)).otherwise(F.col("window"))
    return events.withColumn("window", known)
