"""Items and users as one row an id: from a table of the shop, or from what the events say."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_lib.expressions import check, identifier
from recsys_lib.mapping import TableMapping


def from_table(rows: DataFrame, table: TableMapping, source: str) -> DataFrame:
    """(id, one string per attribute, updated). Of rows with one id the largest counts.

    Raises SettingsError with every column of the mapping that the table lacks.
    """
    texts = {"id": table.id, **{f"attributes.{n}": t for n, t in table.attributes.items()}}
    check(source, texts, rows)
    attributes = [identifier(text, rows).alias(name) for name, text in table.attributes.items()]
    listed = rows.select(identifier(table.id, rows).alias("id"), F.struct(*attributes).alias("all"))
    one = listed.where("id IS NOT NULL").groupBy("id").agg(F.max("all").alias("all"))
    return one.select("id", "all.*", F.current_timestamp().alias("updated"))


def from_events(events: DataFrame, table: TableMapping, who: str) -> DataFrame:
    """(id, one string per attribute, updated): the latest value that is not null.

    `who` is "item" or "user"; silver rows carry the attributes in the order of the mapping.
    """
    order = F.struct("time", "window", "order", "key")
    latest: list[Column] = []
    for position, name in enumerate(table.attributes):
        value = F.get(F.col(f"{who}_attributes"), F.lit(position))
        # max_by passes over rows whose order is null
        latest = [*latest, F.max_by(value, F.when(value.isNotNull(), order)).alias(name)]
    updated = F.max("time").alias("updated")
    return events.groupBy(F.col(who).alias("id")).agg(*latest, updated)
