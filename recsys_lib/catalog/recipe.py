"""Keep the tables `items` and `users` as the shop has them now, and all that was said before."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.catalog.attributes import content, from_events, from_table, ranked
from recsys_lib.catalog.history import columns_of, current
from recsys_lib.catalog.states import merge_number
from recsys_lib.mapping import FROM_SOURCE, Mapping, TableMapping
from recsys_lib.tables import Lake

# What changed in a version can be read from these tables themselves.
CHANGE_FEED = {"delta.enableChangeDataFeed": "true"}


def merge_catalog(
    lake: Lake,
    window: int | None,
    mapping: Mapping,
    read: Callable[[str], DataFrame],
    fingerprint: Callable[[str], str],
) -> dict[str, bool]:
    """Merge what is new into `items` and `users`; says which of them was written now.

    A table of the shop is read again only when its file changed (`fingerprint`). Without one
    the attributes come from the silver events that were not looked at yet. What a source sends
    (path jdbc) is merged where it lands.
    """
    written: dict[str, bool] = {}
    tables: dict[str, TableMapping | None] = {"items": mapping.items, "users": mapping.users}
    for name, table in tables.items():
        if table is None or table.path == FROM_SOURCE:
            written = {**written, name: False}
        elif table.path is not None:
            written = {**written, name: _from_path(lake, name, table, read, fingerprint)}
        else:
            written = {**written, name: _from_silver(lake, name, table, window)}
    return written


def merge_statements(lake: Lake, name: str, said: DataFrame, *, app: str, version: int) -> bool:
    """Append statements to the history of `name` and merge what follows from it; once each.

    Last writer by source time wins and ties are decided by content, so statements may come in any
    order, in any number of parts, more than once.
    """
    stamped = said.withColumn("_change", F.lit(_mark(app, version)))
    lake.append_once(f"{name}_history", stamped, app=app, version=version)
    return _merge_recorded(lake, name, app=app, version=version)


def _mark(app: str, version: int) -> str:
    return f"{app}:{version}"


def _merge_recorded(lake: Lake, name: str, *, app: str, version: int) -> bool:
    """What follows from the statements that the history has of this call."""
    whole = lake.read(f"{name}_history")
    touched = whole.where(F.col("_change") == _mark(app, version)).select("id").distinct()
    rows = current(whole.join(touched, "id", "left_semi"))
    if lake.exists(name):
        rows = _changed(rows, lake.read(name))
    return lake.merge_once(name, rows, on=["id"], app=app, version=version, properties=CHANGE_FEED)


def _from_path(
    lake: Lake,
    name: str,
    table: TableMapping,
    read: Callable[[str], DataFrame],
    fingerprint: Callable[[str], str],
) -> bool:
    path = str(table.path)
    app, history = "catalog of a file", f"{name}_history"
    begun, wrote = lake.last(history, app), False
    if begun is not None and not lake.done(name, app, begun):
        # Killed between the two; by now the file may be another one.
        wrote = _merge_recorded(lake, name, app=app, version=begun)
    number = merge_number(lake, app, fingerprint(path), name, history)
    if lake.done(name, app, number):
        return wrote
    said = from_table(read(path), table, f"{name} ({path})")
    new = unheard(lake, history, said) if table.updated else _other(lake, name, said)
    return merge_statements(lake, name, new, app=app, version=number)


def _from_silver(lake: Lake, name: str, table: TableMapping, window: int | None) -> bool:
    reader = f"catalog:{name}"
    fresh = lake.next_increment("silver", reader)
    if fresh is None:
        return False
    said = from_events(lake.read(fresh), table, name.removesuffix("s"))
    wrote = merge_statements(lake, name, said, app=reader, version=fresh.to_version)
    lake.mark_read(fresh, reader, window=window)
    return wrote


def unheard(lake: Lake, history: str, said: DataFrame) -> DataFrame:
    """Statements that are not recorded yet: a table that grew is read as a whole."""
    if not lake.exists(history):
        return said
    told = lake.read(history).select("id", F.col("_rank.updated"), F.col("_rank.content"))
    same = (
        (F.col("new.id") == F.col("old.id"))
        & F.col("new.updated").eqNullSafe(F.col("old.updated"))
        & (F.col("new._rank.content") == F.col("old.content"))
    )
    return said.alias("new").join(told.alias("old"), same, "left_anti")


def _other(lake: Lake, name: str, said: DataFrame) -> DataFrame:
    """Of a table without times: what differs from what holds now. The first word on an id holds
    since ever, as nobody knows better, a later one from now on."""
    if not lake.exists(name):
        return said
    names = columns_of(said)
    held = lake.read(name)
    missing = {n: F.lit(None).cast(said.schema[n].dataType) for n in names if n not in held.columns}
    words = F.struct(*(F.col(f"`{n}`") for n in names))
    known = held.withColumns(missing).select("id", content(words).alias("_held"))
    compared = said.join(known, "id", "left")
    differs = ~F.col("_held").eqNullSafe(F.col("_rank.content"))
    since = F.when(F.col("_held").isNotNull(), F.current_timestamp())
    none = [F.lit(None).cast(kind) for kind in ("int", "bigint", "string")]
    new = compared.where(differs).withColumn("updated", since).drop("_held", "_rank")
    return ranked(new, names, *none)


def _changed(rows: DataFrame, held: DataFrame) -> DataFrame:
    """Rows that say something else than `held`, so that the change feed tells changes only."""
    if set(rows.columns) - set(held.columns):
        return rows
    names = [c for c in rows.columns if c != "id"]
    old = held.select("id", F.struct(*(F.col(f"`{n}`") for n in names)).alias("_old"))
    same = F.struct(*(F.col(f"`{n}`") for n in names)).eqNullSafe(F.col("_old"))
    return rows.join(old, "id", "left").where(~same).drop("_old")
