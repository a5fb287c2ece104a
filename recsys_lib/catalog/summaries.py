"""What the accepted events say of each item and each user, in one row."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def summaries(silver: DataFrame, who: str) -> DataFrame:
    """One row an id of `who` ("item" or "user"): events, the other side's number, value, span.

    `last_window` is there for logs without times, and tells the newer of two summaries.
    """
    other = "user" if who == "item" else "item"
    return silver.groupBy(F.col(who).alias("id")).agg(
        F.count(F.lit(1)).alias("events"),
        F.count_distinct(other).alias(f"{other}s"),
        F.sum("value").alias("value"),
        _text(F.min("time")).alias("first_event"),
        _text(F.max("time")).alias("last_event"),
        F.max("window").alias("last_window"),
    )


def latest_slates(recommendations: DataFrame, champion: int | None) -> DataFrame:
    """Of each user the slate of the latest window, by the champion or else by the latest model, as
    the champion may be an older one; lists as JSON."""
    serves = F.col("model_version").eqNullSafe(F.lit(champion))
    order = F.struct("window", serves.alias("serves"), "model_version")
    slate = F.struct("items", "scores", "model_version", "window")
    latest = recommendations.groupBy("user").agg(F.max_by(slate, order).alias("it"))
    return latest.select(
        F.col("user").alias("id"),
        F.to_json("it.items").alias("items"),
        F.to_json("it.scores").alias("scores"),
        F.col("it.model_version").alias("model_version"),
        F.col("it.window").alias("last_window"),
    )


def _text(time: Column) -> Column:
    """UTC, as MySQL reads it."""
    return F.date_format(time, "yyyy-MM-dd HH:mm:ss.SSSSSS")
