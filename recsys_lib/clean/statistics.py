"""What is known of numbers: counts, moments and quantiles that merge, one set per increment.

Table `statistics`: one row per increment (`landed`), column and item; item null is all items. An
increment is judged by the rows of those before it, never by itself.

Quantiles come from a histogram whose buckets grow by 2 % (DDSketch; Masson, Rim and Lee, VLDB
2019): off by at most 1 % of the value. Two of them are merged by adding counts, so that the order
of merging changes nothing; KLL drops values at random, and a repeated run would judge otherwise.
Moments are merged after Chan, Golub and LeVeque (1979).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

GAMMA = 1.02
SMALLEST, LARGEST = 1e-9, 1e15
OFFSET = 1100  # more than the buckets below 1, so that a bucket's sign is that of its values
NUMBERS: dict[str, Callable[[], Column]] = {
    "value": lambda: F.col("value"),
    "quantity": lambda: F.col("quantity"),
    "price": lambda: F.when(F.col("quantity") != 0, F.col("value") / F.col("quantity")),
}
GROUP = ("name", "item")
FIELDS = ("n", "mean", "sd", "log_mean", "log_sd", "q1", "median", "q3", "low", "high")


@dataclass(frozen=True)
class Known:
    """`whole`: number -> FIELDS, `cuts` (the nine deciles) and `landed`, the increment they reach.
    `items`: one row a number and item, with FIELDS and `last`, kept until `forget`; None where
    nobody asked."""

    whole: dict[str, dict[str, Any]]
    items: DataFrame | None

    def forget(self) -> None:
        if self.items is not None:
            self.items.unpersist()


def squeezed(x: Column) -> Column:
    """Logarithmic, also for what is not positive."""
    return F.signum(x) * F.log1p(F.abs(x))


def stretched(x: Column) -> Column:
    """The inverse of `squeezed`."""
    return F.signum(x) * F.expm1(F.abs(x))


def summarised(rows: DataFrame, names: list[str], by_item: bool, landed: int) -> DataFrame:
    """Rows of the table `statistics` from silver rows: of `names`, for all and if asked by item."""
    told = [F.struct(F.lit(n).alias("name"), NUMBERS[n]().alias("x")) for n in names]
    whole = F.lit(None).cast("string")
    scopes = F.array(whole, F.col("item")) if by_item else F.array(whole)
    each = rows.select("time", "key", F.explode(scopes).alias("item"), F.array(*told).alias("told"))
    long = each.select("item", "time", "key", F.inline("told"))
    x = F.col("x")
    # Their squares would be infinite: a single one would make every mean and deviation useless.
    long = long.where(x.isNotNull() & ~F.isnan(x) & (F.abs(x) <= F.lit(LARGEST)))
    log = squeezed(x)
    moments = long.groupBy(*GROUP).agg(
        F.count(x).alias("n"),
        F.avg(x).alias("mean"),
        (F.var_pop(x) * F.count(x)).alias("m2"),
        F.avg(log).alias("log_mean"),
        (F.var_pop(log) * F.count(x)).alias("log_m2"),
        F.min(x).alias("low"),
        F.max(x).alias("high"),
        F.max(F.struct("time", "key", "x")).alias("last"),
    )
    counted = long.groupBy(*GROUP, bucket(x).alias("bucket")).agg(F.count(x).alias("n"))
    sketches = counted.groupBy(*GROUP).agg(
        F.map_from_entries(F.array_sort(F.collect_list(F.struct("bucket", "n")))).alias("sketch")
    )
    same = (F.col("a.name") == F.col("b.name")) & F.col("a.item").eqNullSafe(F.col("b.item"))
    joined = moments.alias("a").join(sketches.alias("b"), same).select("a.*", "b.sketch")
    return joined.select(F.lit(landed).cast("bigint").alias("landed"), "*")


def merged(statistics: DataFrame) -> DataFrame:
    """One row per (name, item): what all the increments of `statistics` know together."""
    part = F.struct("landed", "n", "mean", "m2", "log_mean", "log_m2", "sketch")
    parts = F.array_sort(F.collect_list(part.alias("part")), _by_increment)
    told = statistics.groupBy(*GROUP).agg(
        parts.alias("parts"),
        F.max("landed").alias("landed"),
        F.sum("n").alias("n"),
        F.min("low").alias("low"),
        F.max("high").alias("high"),
        F.max("last").alias("last"),
    )
    start = F.struct(
        F.lit(0).cast("bigint").alias("n"),
        *(F.lit(0.0).alias(name) for name in ("mean", "m2", "log_mean", "log_m2")),
    )
    moments = F.reduce("parts", start, _both)
    none = F.create_map().cast("map<int,bigint>")
    sketch = F.reduce(F.transform("parts", lambda it: it["sketch"]), none, _added)
    ordered = F.map_from_entries(F.array_sort(F.map_entries(sketch)))
    rest = ("landed", "n", "low", "high", "last")
    return told.withColumn("moments", moments).select(
        *GROUP,
        *rest,
        *(F.col(f"moments.{name}").alias(name) for name in ("mean", "m2", "log_mean", "log_m2")),
        ordered.alias("sketch"),
    )


def known(statistics: DataFrame, by_item: bool) -> Known | None:
    """What these increments tell; None where they tell nothing."""
    cuts = F.array(*(_quantile(tenth / 10) for tenth in range(1, 10))).alias("cuts")
    rows = _described(statistics.where("item IS NULL"), cuts).collect()  # one a number
    if not rows:
        return None
    items = _described(statistics.where("item IS NOT NULL")).persist() if by_item else None
    return Known({row["name"]: row.asDict() for row in rows}, items)


def _described(statistics: DataFrame, *more: Column) -> DataFrame:
    """(name, item, landed, FIELDS, last) and what else is asked for."""
    it = merged(statistics).withColumn("entries", F.array_sort(F.map_entries("sketch")))
    return it.select(
        *GROUP,
        "landed",
        "n",
        "mean",
        F.sqrt(F.col("m2") / F.col("n")).alias("sd"),
        "log_mean",
        F.sqrt(F.col("log_m2") / F.col("n")).alias("log_sd"),
        *(_quantile(q).alias(n) for n, q in (("q1", 0.25), ("median", 0.5), ("q3", 0.75))),
        "low",
        "high",
        "last",
        *more,
    )


def bucket(x: Column) -> Column:
    """The histogram bucket of a number; buckets are in the order of their numbers, 0 is 0."""
    size = F.least(F.greatest(F.abs(x), F.lit(SMALLEST)), F.lit(LARGEST))
    place = F.ceil(F.log(size) / F.log(F.lit(GAMMA))) + F.lit(OFFSET)
    return F.when(x == 0, F.lit(0)).otherwise(F.signum(x) * place).cast("int")


def _quantile(share: float) -> Column:
    """The value below which `share` of the `n` numbers of `entries` lie, to within a bucket."""
    rank = F.greatest(F.lit(1), F.ceil(F.col("n") * F.lit(share)))
    start = F.struct(F.lit(0).cast("bigint").alias("seen"), F.lit(None).cast("int").alias("at"))

    def step(acc: Column, it: Column) -> Column:
        seen = acc["seen"] + it["value"]
        at = F.coalesce(acc["at"], F.when(seen >= rank, it["key"]))
        return F.struct(seen.alias("seen"), at.alias("at"))

    at = F.reduce("entries", start, step)["at"]
    power = F.pow(F.lit(GAMMA), F.abs(at) - F.lit(OFFSET))
    return F.when(at == 0, F.lit(0.0)).otherwise(F.signum(at) * power * F.lit(2 / (1 + GAMMA)))


def _by_increment(a: Column, b: Column) -> Column:
    # A map has no order, so the structs cannot be sorted as they are.
    first, second = a["landed"], b["landed"]
    return F.when(first < second, -1).when(first > second, 1).otherwise(0)


def _both(acc: Column, part: Column) -> Column:
    n = acc["n"] + part["n"]

    def pair(mean: str, m2: str) -> tuple[Column, Column]:
        delta = part[mean] - acc[mean]
        spread = delta * delta * acc["n"] * part["n"] / n
        return (
            (acc[mean] + delta * part["n"] / n).alias(mean),
            (acc[m2] + part[m2] + spread).alias(m2),
        )

    return F.struct(n.alias("n"), *pair("mean", "m2"), *pair("log_mean", "log_m2"))


def _added(acc: Column, part: Column) -> Column:
    zero = F.lit(0).cast("bigint")
    return F.map_zip_with(acc, part, lambda _, a, b: F.coalesce(a, zero) + F.coalesce(b, zero))
