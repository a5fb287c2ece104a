"""Keep the tables `items` and `users` as the shop has them now."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.catalog.attributes import from_events, from_table
from recsys_lib.mapping import Mapping, TableMapping
from recsys_lib.tables import Lake


def merge_catalog(
    lake: Lake,
    window: int | None,
    mapping: Mapping,
    read: Callable[[str], DataFrame],
    fingerprint: Callable[[str], str],
) -> dict[str, bool]:
    """Merge what is new into `items` and `users`; says which of them was written now.

    A table of the shop is read again only when its file changed (`fingerprint`). Without one
    the attributes come from the silver events that were not looked at yet.
    """
    written: dict[str, bool] = {}
    tables: dict[str, TableMapping | None] = {"items": mapping.items, "users": mapping.users}
    for name, table in tables.items():
        if table is None:
            written = {**written, name: False}
        elif table.path is not None:
            written = {**written, name: _from_path(lake, name, table, read, fingerprint)}
        else:
            written = {**written, name: _from_silver(lake, name, table, window)}
    return written


def _from_path(
    lake: Lake,
    name: str,
    table: TableMapping,
    read: Callable[[str], DataFrame],
    fingerprint: Callable[[str], str],
) -> bool:
    path = str(table.path)
    # One application per state of the file: merged once however often this is called.
    state = zlib.crc32(fingerprint(path).encode())
    app = f"catalog:{state:08x}"
    if lake.done(name, app, 0):
        return False
    rows = from_table(read(path), table, f"{name} ({path})")
    return lake.merge_once(name, rows, on=["id"], app=app, version=0)


def _from_silver(lake: Lake, name: str, table: TableMapping, window: int | None) -> bool:
    reader = f"catalog:{name}"
    fresh = lake.next_increment("silver", reader)
    if fresh is None:
        return False
    rows = from_events(lake.read(fresh), table, name.removesuffix("s"))
    kept = {a: f"coalesce(new.`{a}`, old.`{a}`)" for a in table.attributes}
    latest = {"updated": "greatest(new.updated, old.updated)"}
    wrote = lake.merge_once(
        name,
        rows.where(F.col("id").isNotNull()),
        on=["id"],
        app=reader,
        version=fresh.to_version,
        newer="updated",
        set_={**kept, **latest},
    )
    lake.mark_read(fresh, reader, window=window)
    return wrote
