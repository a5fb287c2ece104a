"""`items_history` and `users_history`: every statement, appended; what holds follows from them."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_lib.mapping import FROM_SOURCE, TableMapping
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


def known_by(
    lake: Lake, name: str, table: TableMapping, ids: DataFrame, window: int, end: datetime | None
) -> DataFrame:
    """(id, columns, updated) of these `ids` in "items" or "users", as known when `window` ended.

    What events said counts by their window, what a table said by its source time, which must be
    before `end` (None: windows have no times). A table that tells no times holds as it is.
    """
    if table.path not in (None, FROM_SOURCE) and table.updated is None:
        return lake.read(name).join(ids, "id", "left_semi")
    before = F.lit(True) if end is None else F.coalesce(F.col("updated") < F.lit(end), F.lit(True))
    told = F.coalesce(F.col("_rank.window") <= window, before)
    return current(lake.read(f"{name}_history").join(ids, "id", "left_semi").where(told))


def _spoken(name: str) -> Column:
    return F.col("_whole") | F.col(f"`{name}`").isNotNull()
