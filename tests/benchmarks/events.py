"""Events as a shop sends them, made by Spark: skewed, out of order, repeated and in part broken.

Everything about row n follows from n and the seed, so that any part can be made again alone.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_lib.mapping import Mapping

SCHEMA = "id string, user string, item string, type string, time string, price double, quantity int"
MAPPING = Mapping.model_validate(
    {
        "name": "bench",
        "id": "id",
        "user": "user",
        "item": "item",
        "type": "type",
        "time": {"timestamp": "time"},
        "value": "price",
        "quantity": "quantity",
        "windows": {"history": 1, "start": "2026-01-05"},
    }
)
ITEMS, USERS, WEEKS = 50_000, 500_000, 12
DUPLICATES, MALFORMED = 0.05, 0.02
NEAR = 2_000  # rows within which most repeats come; one in ten is from any time before


def lines(spark: SparkSession, first: int, last: int, total: int, seed: int = 7) -> DataFrame:
    """(value): the JSON lines of rows [first, last) of a log of `total` rows."""
    rows = _placed(spark.range(first, last), seed)
    it = F.col("event")
    seconds = F.lit(1_767_571_200) + it * F.lit(WEEKS * 7 * 86_400 / total)
    # A quarter of an hour of disorder: phones and browsers send late.
    time = F.timestamp_micros(((seconds - _uniform("late", seed, it) * 900) * 1e6).cast("bigint"))
    kinds = F.array(*(F.lit(kind) for kind in ("view", "view", "view", "cart", "buy")))
    event = F.struct(
        F.md5(it.cast("string")).alias("id"),
        F.format_string("u%06d", _skewed("user", seed, it, USERS)).alias("user"),
        F.when(F.col("fault") != 1, F.format_string("i%05d", _skewed("item", seed, it, ITEMS)))
        .alias("item"),
        F.get(kinds, (_uniform("type", seed, it) * 5).cast("int")).alias("type"),
        F.when(F.col("fault") == 2, F.lit("yesterday"))
        .otherwise(F.date_format(time, "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"))
        .alias("time"),
        F.round(_uniform("price", seed, it) * 90 + 1, 2).alias("price"),
        (_uniform("quantity", seed, it) * 3 + 1).cast("int").alias("quantity"),
    )  # fmt: skip
    line = F.to_json(event)
    return rows.select(F.when(F.col("fault") == 0, F.substring(line, 1, 60)).otherwise(line)
                       .alias("value"))  # fmt: skip


def good_events(spark: SparkSession, rows: int, seed: int = 7) -> int:
    """How many different well-formed events the first `rows` rows hold."""
    kept = _placed(spark.range(0, rows), seed).where("fault > 2").select("event")
    return kept.distinct().count()


def _placed(rows: DataFrame, seed: int) -> DataFrame:
    """(event, fault): whose content a row carries; 0 cut off, 1 no item, 2 no time, else none."""
    row = F.col("id")
    share = _uniform("far", seed, row)
    near = F.least(F.lit(NEAR), row) * _uniform("near", seed, row)
    back = F.when(share < 0.1, row * _uniform("where", seed, row)).otherwise(near)
    again = _uniform("again", seed, row) < DUPLICATES
    event = F.when(again, row - F.floor(back)).otherwise(row)
    fault = F.floor(_uniform("fault", seed, row) * (3 / MALFORMED))
    return rows.select(event.cast("bigint").alias("event"), fault.alias("fault"))


def _uniform(what: str, seed: int, row: Column) -> Column:
    """In [0, 1), the same for the same row."""
    bits = F.shiftrightunsigned(F.xxhash64(F.lit(what), F.lit(seed), row), 11)
    return bits / F.lit(float(1 << 53))


def _skewed(what: str, seed: int, row: Column, count: int) -> Column:
    """Few are met often, most hardly ever."""
    return F.floor(F.pow(_uniform(what, seed, row), F.lit(3.0)) * count).cast("int")
