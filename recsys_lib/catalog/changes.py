"""Changes of items or users that a source sends, with the time at which it made them."""

from __future__ import annotations

from pyspark.sql import DataFrame

from recsys_lib.catalog.attributes import from_table
from recsys_lib.catalog.recipe import merge_statements, unheard
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
    """Merge `rows` into the table `name` and its history, once; the latest by `updated` counts."""
    dated = table.model_copy(update={"updated": table.updated or updated})
    said = from_table(rows, dated, f"{name} ({table.path})")
    new = unheard(lake, f"{name}_history", said)
    return merge_statements(lake, name, new, app=app, version=version)
