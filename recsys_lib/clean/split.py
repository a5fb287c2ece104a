"""Every bronze row goes to exactly one side: silver, or quarantine with a rule and a reason."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_lib.clean.rules import DUPLICATE, DUPLICATE_REASON, rules
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings
from recsys_lib.types import CleanSplit

EVENT = ("user", "item", "type", "time", "order", "value", "quantity", "window", "at", "source")
SILVER = ("key", *EVENT, "item_attributes", "user_attributes")
FIELDS = "fields"  # what the records hold beside: a struct that grows, in live lakes only
QUARANTINE = ("key", "source", "payload", "rule", "reason", "window", "arrived")


def split_valid(
    rows: DataFrame,
    mapping: Mapping,
    settings: CleanSettings,
    accepted: DataFrame | None = None,
) -> CleanSplit:
    """Split bronze `rows`. `accepted` holds the keys of silver as it was before these rows."""
    checked = check_rows(rows, mapping, settings)
    return split_checked(checked, repeated_keys(checked, accepted))


def check_rows(rows: DataFrame, mapping: Mapping, settings: CleanSettings) -> DataFrame:
    """`rows` with `rule` and `reason` of the first rule each breaks; null for a good row."""
    applied = rules(mapping, settings)
    names = F.coalesce(*(F.when(rule.broken(), F.lit(rule.name)) for rule in applied))
    reasons = F.create_map(*(F.lit(text) for rule in applied for text in (rule.name, rule.reason)))
    reason = reasons[F.col("rule")]
    if "detail" in rows.columns:
        # What exactly was wrong, where landing could tell: it knows of these two rules alone.
        told = F.col("rule") == F.col("rejected")
        reason = F.coalesce(F.when(told, F.col("detail")), reason)
    return rows.withColumn("rule", names).withColumn("reason", reason)


def repeated_keys(checked: DataFrame, accepted: DataFrame | None) -> DataFrame:
    """(key, known): keys that more than one good row has, or that were `accepted` before.

    Few, as a rule: only their rows need be sorted, all others pass without a shuffle.
    """
    good = checked.where(F.col("rule").isNull()).select("key")
    keys = good.groupBy("key").agg(F.count(F.lit(1)).alias("times"))
    if accepted is None:
        return keys.where("times > 1").select("key", F.lit(False).alias("known"))
    known = accepted.select("key").join(F.broadcast(keys.select("key")), "key", "left_semi")
    known = known.select("key", F.lit(True).alias("known"))
    marked = keys.join(known, "key", "left").where("times > 1 OR known")
    return marked.select("key", F.coalesce("known", F.lit(False)).alias("known"))


def split_checked(checked: DataFrame, repeated: DataFrame | None) -> CleanSplit:
    """The two sides. Of good rows with one key one is kept, none if the key is known.

    It is the smallest by time, order and the other columns: the same whenever this is repeated.
    `repeated` null says that there are no such keys.
    """
    good = checked.where(F.col("rule").isNull())
    bad = checked.where(F.col("rule").isNotNull()).select(*_columns(QUARANTINE))
    silver = _columns((*SILVER, FIELDS) if FIELDS in checked.columns else SILVER)
    if repeated is None:
        return CleanSplit(good.select(*silver), bad)
    order = [F.col(f"`{name}`").asc_nulls_last() for name in (*EVENT, "payload")]
    rank = F.row_number().over(Window.partitionBy("key").orderBy(*order))
    ranked = good.join(repeated, "key").withColumn("rank", rank)
    keep = (F.col("rank") == 1) & ~F.col("known")
    again = ranked.where(~keep).withColumns(
        {"rule": F.lit(DUPLICATE), "reason": F.lit(DUPLICATE_REASON)}
    )
    alone = good.join(repeated, "key", "left_anti")
    valid = alone.select(*silver).unionByName(ranked.where(keep).select(*silver))
    return CleanSplit(valid, bad.unionByName(again.select(*_columns(QUARANTINE))))


def _columns(names: tuple[str, ...]) -> list[Column]:
    return [F.col(f"`{name}`") for name in names]
