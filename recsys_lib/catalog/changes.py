"""Changes of items or users that a source sends, with the time at which it made them."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.expressions import column, identifier
from recsys_lib.mapping import TableMapping
from recsys_lib.tables import Lake


def merge_changes(
    lake: Lake,
    name: str,
    rows: DataFrame,
    table: TableMapping,
    updated: str,
    *,
    app: str,
    version: int,
) -> bool:
    """Merge `rows` into the table `name`, once; the latest by the column `updated` counts."""
    attributes = [identifier(text, rows).alias(n) for n, text in table.attributes.items()]
    listed = rows.select(
        identifier(table.id, rows).alias("id"),
        F.struct(column(updated, rows).cast("timestamp").alias("updated"), *attributes).alias("it"),
    )
    latest = listed.where("id IS NOT NULL").groupBy("id").agg(F.max("it").alias("it"))
    changes = latest.select("id", *(f"it.{n}" for n in table.attributes), "it.updated")
    return lake.merge_once(name, changes, on=["id"], app=app, version=version, newer="updated")
