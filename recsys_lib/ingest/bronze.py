"""Raw records -> bronze rows: a stable key, the record itself as JSON, and what it means."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_lib.errors import SettingsError
from recsys_lib.expressions import CORRUPT, PAYLOAD, column, faults, identifier
from recsys_lib.ingest.axis import Axis, event_time, place
from recsys_lib.mapping import RETURN, STANDARD, Mapping, TableMapping

UNREADABLE = "unreadable"
SCHEMA = (
    "source string, key string, payload string, user string, item string, type string, "
    "time timestamp, `order` bigint, value double, quantity double, `window` int, at double, "
    "rejected string, item_attributes array<string>, user_attributes array<string>"
)


def check_mapping(rows: DataFrame, mapping: Mapping) -> None:
    """Every column the mapping names must be there. Raises SettingsError with all faults."""
    texts = {
        "user": mapping.user,
        "item": mapping.item,
        "type": mapping.type,
        "order": mapping.order,
        "id": mapping.id,
        "value": mapping.value,
        "quantity": mapping.quantity,
        "time.timestamp": mapping.time.timestamp,
        "time.epoch": mapping.time.epoch,
        "time.period": mapping.time.period,
        "windows.column": mapping.windows.column,
        **{f"rejects.{reason}": text for reason, text in mapping.rejects.items()},
        "returns": mapping.returns,
        **_table_texts("items", mapping.items),
        **_table_texts("users", mapping.users),
    }
    found = faults(texts, rows, boolean=("rejects.", "returns"))
    if found:
        raise SettingsError(mapping.name, found)


def parse(rows: DataFrame, mapping: Mapping, axis: Axis, earliest: str = "1990-01-01") -> DataFrame:
    """Bronze columns (SCHEMA), one row per raw record. Pure: nothing is dropped here.

    `rejected` is "return" for a row that takes a sale back, the first of `mapping.rejects` that
    holds, or "unreadable" for a line that did
    not parse, whose payload is the line itself. The attributes of items and users are taken along
    only where the mapping gives no table for them, in the order of the mapping.
    """
    corrupt = F.col(CORRUPT) if CORRUPT in rows.columns else F.lit(None).cast("string")
    named = [F.col(f"`{name}`") for name in rows.columns if name not in (CORRUPT, PAYLOAD)]
    text = F.col(PAYLOAD) if PAYLOAD in rows.columns else F.to_json(F.struct(*named))
    payload = F.coalesce(corrupt, text)
    time = event_time(rows, mapping)
    window, at = place(rows, mapping, axis, time, earliest)
    parsed = rows.select(
        F.lit(mapping.name).alias("source"),
        _own_key(rows, mapping).alias("own_key"),
        payload.alias("payload"),
        identifier(mapping.user, rows).alias("user"),
        identifier(mapping.item, rows).alias("item"),
        F.coalesce(column(mapping.type, rows).cast("string"), F.lit("unknown")).alias("type"),
        time.alias("time"),
        _or_null(rows, mapping.order, "bigint").alias("order"),
        _or_null(rows, mapping.value, "double").alias("value"),
        _or_null(rows, mapping.quantity, "double").alias("quantity"),
        window.alias("window"),
        at.alias("at"),
        F.when(corrupt.isNotNull(), UNREADABLE)
        .otherwise(_first_reject(rows, mapping))
        .alias("rejected"),
        _attributes(rows, mapping.items).alias("item_attributes"),
        _attributes(rows, mapping.users).alias("user_attributes"),
    )
    key = F.md5(F.coalesce(F.col("own_key"), F.col("payload")))
    return parsed.withColumn("key", key).select(*_names())


def _names() -> list[str]:
    return [part.split()[0].strip("`") for part in SCHEMA.split(", ")]


def _own_key(rows: DataFrame, mapping: Mapping) -> Column:
    return F.lit(None).cast("string") if mapping.id is None else identifier(mapping.id, rows)


def _or_null(rows: DataFrame, text: str | None, kind: str) -> Column:
    return (F.lit(None) if text is None else column(text, rows)).cast(kind)


def _first_reject(rows: DataFrame, mapping: Mapping) -> Column:
    # A return first: what it takes back is negative, and other rejects would hold for it too.
    named = {RETURN: mapping.returns, **mapping.rejects}
    tests = [F.when(column(t, rows), F.lit(reason)) for reason, t in named.items() if t]
    return F.coalesce(*tests) if tests else F.lit(None).cast("string")


def _attributes(rows: DataFrame, table: TableMapping | None) -> Column:
    if table is None or table.path is not None:
        return F.lit(None).cast("array<string>")
    values = [identifier(text, rows) for text in table.columns.values()]
    return F.array(*values).cast("array<string>")


def _table_texts(section: str, table: TableMapping | None) -> dict[str, str | None]:
    if table is None or table.path is not None:
        return {}
    texts = {
        f"{section}.{'' if name in STANDARD else 'attributes.'}{name}": text
        for name, text in table.columns.items()
    }
    return {f"{section}.id": table.id, **texts}
