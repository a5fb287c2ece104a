"""Raw records -> bronze rows: a stable key, the record itself as JSON, and what it means."""

from __future__ import annotations

from collections.abc import Sequence

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


def check_mapping(rows: DataFrame, mapping: Mapping, others: Sequence[str] = ()) -> None:
    """Every column the mapping names must be there. Raises SettingsError with all faults; `others`
    are those that were found elsewhere."""
    found = [*faults(texts_of(mapping), rows, boolean=("rejects.", "returns")), *others]
    if found:
        raise SettingsError(mapping.name, found)


def texts_of(mapping: Mapping) -> dict[str, str | None]:
    """What the mapping says of events, by the place where it says so."""
    return {
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
    texts = meaning(rows, mapping, axis, earliest)
    own_key, rejected = texts.pop("own_key"), texts.pop("rejected")
    parsed = rows.select(
        F.lit(mapping.name).alias("source"),
        own_key.alias("own_key"),
        payload.alias("payload"),
        F.when(corrupt.isNotNull(), UNREADABLE).otherwise(rejected).alias("rejected"),
        *(found.alias(name) for name, found in texts.items()),
    )
    key = F.md5(F.coalesce(F.col("own_key"), F.col("payload")))
    return parsed.withColumn("key", key).select(*_names())


def meaning(rows: DataFrame, mapping: Mapping, axis: Axis, earliest: str) -> dict[str, Column]:
    """What the mapping says of each row: the columns of SCHEMA that it decides, and `own_key`."""
    time = event_time(rows, mapping)
    window, at = place(rows, mapping, axis, time, earliest)
    return {
        "own_key": _own_key(rows, mapping),
        "user": identifier(mapping.user, rows),
        "item": identifier(mapping.item, rows),
        "type": F.coalesce(column(mapping.type, rows).cast("string"), F.lit("unknown")),
        "time": time,
        "order": _or_null(rows, mapping.order, "bigint"),
        "value": _or_null(rows, mapping.value, "double"),
        "quantity": _or_null(rows, mapping.quantity, "double"),
        "window": window,
        "at": at,
        "rejected": _first_reject(rows, mapping),
        "item_attributes": _attributes(rows, mapping.items),
        "user_attributes": _attributes(rows, mapping.users),
    }


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
