"""Ids -> dense indices that never change: new ids are appended, so old weights keep their rows."""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

SCHEMA = "kind string, id string, `index` int, `window` int"


def seen_in_events(events: DataFrame) -> DataFrame:
    """(kind, id, first_time, first_window) of the items, users and types of silver rows."""
    kinds = [
        F.struct(F.lit(kind).alias("kind"), F.col(kind).alias("id"), "time", "window")
        for kind in ("item", "user", "type")
    ]
    told = events.select(F.inline(F.array(*kinds)))
    return told.groupBy("kind", "id").agg(
        F.min("time").alias("first_time"), F.min("window").alias("first_window")
    )


def seen_in_catalog(catalog: DataFrame, who: str, attributes: list[str]) -> DataFrame:
    """The attribute values of catalogue rows, as kinds "item.brand", "user.age" and so on."""
    pairs = [
        F.struct(F.lit(f"{who}.{name}").alias("kind"), F.col(f"`{name}`").alias("id"))
        for name in attributes
    ]
    values = catalog.select(F.inline(F.array(*pairs))).where("id IS NOT NULL").distinct()
    none = F.lit(None)
    return values.withColumns(
        {"first_time": none.cast("timestamp"), "first_window": none.cast("int")}
    )


def grow(seen: DataFrame, vocabulary: DataFrame, window: int) -> DataFrame:
    """The rows to append (SCHEMA): ids of `seen` that `vocabulary` lacks.

    `seen` has one row per kind and id. Within a kind indices start at 1 and go on without gaps,
    in the order of (first time, first window, id).
    """
    new = seen.join(vocabulary.select("kind", "id"), ["kind", "id"], "left_anti")
    last = vocabulary.groupBy("kind").agg(F.max("index").alias("last"))
    order = Window.partitionBy("kind").orderBy(
        F.col("first_time").asc_nulls_last(), F.col("first_window").asc_nulls_last(), "id"
    )
    ranked = new.withColumn("rank", F.row_number().over(order)).join(
        F.broadcast(last), "kind", "left"
    )
    index = (F.coalesce("last", F.lit(0)) + F.col("rank")).cast("int")
    return ranked.select("kind", "id", index.alias("index"), F.lit(window).alias("window"))


def lookup(vocabulary: DataFrame, kind: str, id_as: str, index_as: str) -> DataFrame:
    """Two columns of one kind, ready to be joined."""
    mine = vocabulary.where(F.col("kind") == kind)
    return mine.select(F.col("id").alias(id_as), F.col("index").alias(index_as))


def indices(vocabulary: DataFrame, kind: str, ids: Collection[str]) -> set[int] | None:
    """Those of a few ids, as far as they are known; None (all there are) for no ids."""
    if not ids:
        return None
    mine = vocabulary.where((F.col("kind") == kind) & F.col("id").isin(*ids))
    return {row["index"] for row in mine.select("index").collect()}


def encode(
    rows: DataFrame, vocabulary: DataFrame, who: str, attributes: list[str], into: str
) -> DataFrame:
    """Replace the attribute columns by one array<int> `into`, in the order given; 0 unknown.

    `rows` has one row per `id`. All attributes are looked up in one join, not one join each.
    """
    others = [F.col(f"`{name}`") for name in rows.columns if name not in attributes]
    if not attributes:
        return rows.select(*others, F.array().cast("array<int>").alias(into))
    told = [
        F.struct(
            F.lit(place).alias("place"),
            F.lit(f"{who}.{name}").alias("kind"),
            F.col(f"`{name}`").alias("value"),
        )
        for place, name in enumerate(attributes)
    ]
    values = rows.select("id", F.inline(F.array(*told)))
    words = vocabulary.select("kind", F.col("id").alias("value"), F.col("index").alias("code"))
    found = values.join(words, ["kind", "value"]).groupBy("id")
    codes = found.agg(F.map_from_entries(F.collect_list(F.struct("place", "code"))).alias("codes"))
    row = [F.coalesce(F.col("codes")[place], F.lit(0)) for place in range(len(attributes))]
    coded = F.array(*row).cast("array<int>").alias(into)
    return rows.join(codes, "id", "left").select(*others, coded)
