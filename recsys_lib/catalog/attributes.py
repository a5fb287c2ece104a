"""What is said of items and users: statements, from a table of the shop or from the events.

A statement is (id, columns of the mapping, updated, `_rank`, `_whole`). The greatest `_rank` wins;
no two differ in content only by chance of arrival, so any order of arrival gives the same. In a
whole statement null is a value ("no promotion any more"), in an event's it is silence.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_lib.expressions import check, column, identifier
from recsys_lib.mapping import STANDARD, TableMapping


def from_table(rows: DataFrame, table: TableMapping, source: str) -> DataFrame:
    """Whole statements; `updated` null where the table does not say when. Of rows with one id and
    time one counts, the same in whatever order and however many parts they come.

    Raises SettingsError with every column of the mapping that the table lacks.
    """
    check(source, texts_of(table), rows)
    values = [_typed(name, text, rows) for name, text in table.columns.items()]
    time = F.lit(None) if table.updated is None else column(table.updated, rows)
    listed = rows.select(
        identifier(table.id, rows).alias("id"),
        time.cast("timestamp").alias("updated"),
        F.struct(*values).alias("all"),
    )
    words = F.max_by("all", content(F.col("all"))).alias("all")
    one = listed.where("id IS NOT NULL").groupBy("id", "updated").agg(words)
    none = [F.lit(None).cast(kind) for kind in ("int", "bigint", "string")]
    said = one.select("id", "all.*", "updated").withColumn("_whole", F.lit(True))
    return ranked(said, list(table.columns), *none)


def texts_of(table: TableMapping) -> dict[str, str | None]:
    """What the mapping says of a table of the shop, by the place where it says so."""
    texts = {name if name in STANDARD else f"attributes.{name}": text
             for name, text in table.columns.items()}  # fmt: skip
    return {"id": table.id, **texts, "updated": table.updated}


def from_events(events: DataFrame, table: TableMapping, who: str) -> DataFrame:
    """What silver rows say; of a run of equal words only the first and the last.

    `who` is "item" or "user"; silver rows carry the columns in the order of the mapping.
    """
    names = list(table.columns)
    values = [
        F.get(F.col(f"{who}_attributes"), F.lit(place)).cast(STANDARD.get(name, "string"))
        for place, name in enumerate(names)
    ]
    told = events.select(
        F.col(who).alias("id"),
        *(value.alias(name) for value, name in zip(values, names, strict=True)),
        F.col("time").alias("updated"),
        F.col("window").alias("_window"),
        F.col("order").alias("_order"),
        F.col("key").alias("_key"),
    )
    in_time = Window.partitionBy("id").orderBy("updated", "_window", "_order", "_key")
    words = F.struct(*(F.col(f"`{name}`") for name in names))
    runs = told.where("id IS NOT NULL").withColumns(
        {"_before": F.lag(words).over(in_time), "_after": F.lead(words).over(in_time)}
    )
    inside = words.eqNullSafe(F.col("_before")) & words.eqNullSafe(F.col("_after"))
    said = runs.where(~inside).withColumn("_whole", F.lit(False))
    place = [F.col(name) for name in ("_window", "_order", "_key")]
    return ranked(said, names, *place).drop("_window", "_order", "_key", "_before", "_after")


def ranked(rows: DataFrame, names: list[str], window: Column, order: Column, key: Column) -> (
    DataFrame
):  # fmt: skip
    """`rows` with `_rank`: source time first, content last, so that ties are never left open."""
    rank = F.struct(
        "updated",
        window.alias("window"),
        order.alias("order"),
        key.alias("key"),
        content(F.struct(*(F.col(f"`{name}`") for name in names))).alias("content"),
    )
    return rows.withColumn("_rank", rank)


def content(words: Column) -> Column:
    """A number that is the same for structs that say the same, nulls included."""
    return F.xxhash64(F.to_json(words, {"ignoreNullFields": "false"}))


def _typed(name: str, text: str, rows: DataFrame) -> Column:
    kind = STANDARD.get(name, "string")
    it = identifier(text, rows) if kind == "string" else column(text, rows).cast(kind)
    return it.alias(name)
