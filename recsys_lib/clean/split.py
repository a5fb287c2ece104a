"""Every bronze row goes to exactly one side: silver, or quarantine with a rule and a reason."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_lib.clean.rules import DUPLICATE, DUPLICATE_REASON, Rule, rules
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings
from recsys_lib.types import CleanSplit

EVENT = ("user", "item", "type", "time", "order", "value", "quantity", "window", "at", "source")
SILVER = ("key", *EVENT, "item_attributes", "user_attributes")
QUARANTINE = ("key", "source", "payload", "rule", "reason", "window", "arrived")


def split_valid(
    rows: DataFrame,
    mapping: Mapping,
    settings: CleanSettings,
    accepted: DataFrame | None = None,
) -> CleanSplit:
    """Split bronze `rows`. `accepted` holds the keys of silver as it was before these rows.

    Of rows with one key exactly one is kept, the smallest by time, order and the other columns:
    the same one whenever this is repeated.
    """
    checked = _checked(rows, rules(mapping, settings))
    good = checked.where(F.col("rule").isNull())
    bad = checked.where(F.col("rule").isNotNull())
    # Few keys are met twice: only their rows are sorted, the others pass without a shuffle.
    seen = good.groupBy("key").agg(F.count(F.lit(1)).alias("times"))
    twice = seen.where("times > 1").select("key")
    alone = good.join(twice, "key", "left_anti")
    order = [F.col(f"`{name}`").asc_nulls_last() for name in (*EVENT, "payload")]
    rank = F.row_number().over(Window.partitionBy("key").orderBy(*order))
    ranked = good.join(twice, "key", "left_semi").withColumn("rank", rank)
    first = alone.unionByName(ranked.where("rank = 1").drop("rank"))
    again = ranked.where("rank > 1").drop("rank")
    if accepted is not None:
        known = accepted.select("key").join(rows.select("key"), "key", "left_semi").distinct()
        again = again.unionByName(first.join(known, "key", "left_semi"))
        first = first.join(known, "key", "left_anti")
    doubled = again.withColumn("rule", F.lit(DUPLICATE))
    doubled = doubled.withColumn("reason", F.lit(DUPLICATE_REASON))
    rejected = bad.select(*_columns(QUARANTINE)).unionByName(doubled.select(*_columns(QUARANTINE)))
    return CleanSplit(first.select(*_columns(SILVER)), rejected)


def _columns(names: tuple[str, ...]) -> list[Column]:
    return [F.col(f"`{name}`") for name in names]


def _checked(rows: DataFrame, applied: list[Rule]) -> DataFrame:
    """`rule` and `reason` of the first rule a row breaks, else null."""

    def first(value: str) -> Column:
        tests = [F.when(rule.broken(), F.lit(getattr(rule, value))) for rule in applied]
        return F.coalesce(*tests)

    columns = {"rule": first("name"), "reason": first("reason")}
    return reduce(lambda frame, item: frame.withColumn(*item), columns.items(), rows)
