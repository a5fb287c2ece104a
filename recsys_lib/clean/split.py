"""Every bronze row goes to exactly one side: silver, or quarantine with a rule and a reason."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_lib.clean.rules import DUPLICATE, DUPLICATE_REASON, rules
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings
from recsys_lib.types import CleanSplit

EVENT = ("user", "item", "type", "time", "order", "value", "quantity", "window", "at", "source")
SILVER = ("key", *EVENT, "item_attributes", "user_attributes")
IN_MEMORY = 2_000_000  # keys that one executor may hold at once; beyond, they are shuffled
FIELDS = "fields"  # what the records hold beside: a struct that grows, in live lakes only
QUARANTINE = ("key", "source", "payload", "rule", "reason", "window", "arrived")


def check_rows(rows: DataFrame, mapping: Mapping, settings: CleanSettings) -> DataFrame:
    """`rows` with the `hash` of their key, and `rule` and `reason` of the first rule each breaks;
    null for a good row."""
    applied = rules(mapping, settings)
    names = F.coalesce(*(F.when(rule.broken(), F.lit(rule.name)) for rule in applied))
    reasons = F.create_map(*(F.lit(text) for rule in applied for text in (rule.name, rule.reason)))
    reason = reasons[F.col("rule")]
    if "detail" in rows.columns:
        # What exactly was wrong, where landing could tell: it knows of these two rules alone.
        told = F.col("rule") == F.col("rejected")
        reason = F.coalesce(F.when(told, F.col("detail")), reason)
    ruled = rows.withColumn("rule", names).withColumn("reason", reason)
    return ruled.withColumn("hash", F.xxhash64("key"))


def repeated_keys(checked: DataFrame, accepted: DataFrame | None, *, broadcast: bool) -> DataFrame:
    """(hash, known): hashes that more than one good row has, or a row of `accepted`.

    `known` lists the accepted keys of that hash: two keys may share one. Silver is not moved:
    each row is held against the new hashes, which fit into memory where `broadcast` says so.
    """
    good = checked.where(F.col("rule").isNull())
    keys = good.groupBy("hash").agg(F.count(F.lit(1)).alias("times"))
    again = keys.where("times > 1").select("hash", F.lit(None).cast("string").alias("key"))
    if accepted is not None:
        # The condition always holds; with it both uses of `keys` share one shuffle.
        fresh = keys.where("times > 0").select("hash")
        fresh = F.broadcast(fresh) if broadcast else fresh
        old = accepted.select(F.xxhash64("key").alias("hash"), "key")
        again = again.unionByName(old.join(fresh, "hash", "left_semi"))
    return again.groupBy("hash").agg(F.collect_set("key").alias("known"))


def suspects(checked: DataFrame, repeated: DataFrame | None) -> DataFrame:
    """Rows that break a rule or whose hash is `repeated` (null: none is), few as a rule.

    Of good rows with one key only one keeps a null `rule`, none if the key is known. It is the
    smallest by time, order and the other columns: the same whenever this is repeated.
    """
    wanted = list(dict.fromkeys((*QUARANTINE, *_silver(checked))))
    if repeated is None:
        return checked.where(F.col("rule").isNotNull()).select(*_columns(wanted))
    odd = checked.join(repeated, "hash", "left")
    odd = odd.where(F.col("rule").isNotNull() | F.col("known").isNotNull())
    order = [F.col(f"`{name}`").asc_nulls_last() for name in (*EVENT, "payload")]
    # Broken rows take no part: each is alone, whatever its key.
    alone = F.when(F.col("rule").isNotNull(), F.monotonically_increasing_id())
    rank = F.row_number().over(Window.partitionBy("key", "alone").orderBy(*order))
    odd = odd.withColumn("alone", alone).withColumn("rank", rank)
    taken = (F.col("rank") > 1) | F.array_contains("known", F.col("key"))
    twice = F.col("rule").isNull() & taken
    return odd.withColumns(
        {
            "reason": F.when(twice, DUPLICATE_REASON).otherwise(F.col("reason")),
            "rule": F.when(twice, DUPLICATE).otherwise(F.col("rule")),
        }
    ).select(*_columns(wanted))


def split_checked(
    checked: DataFrame, repeated: DataFrame | None, odd: DataFrame | None = None
) -> CleanSplit:
    """The two sides: what is beyond suspicion passes without a shuffle, the rest as judged.

    `odd`: the `suspects`, where the caller has kept them.
    """
    odd = suspects(checked, repeated) if odd is None else odd
    good = checked.where(F.col("rule").isNull())
    silver = _columns(_silver(checked))
    kept = odd.where(F.col("rule").isNull()).select(*silver)
    bad = odd.where(F.col("rule").isNotNull()).select(*_columns(QUARANTINE))
    if repeated is None:
        return CleanSplit(good.select(*silver), bad)
    alone = good.join(repeated.select("hash"), "hash", "left_anti")
    return CleanSplit(alone.select(*silver).unionByName(kept), bad)


def left_of(rows: DataFrame, aside: DataFrame) -> DataFrame:
    """The silver side of bronze `rows`, of which those `aside` are in quarantine already: the same
    by whatever settings and silver there are by now. Of rows that are alike the smallest stays."""
    alike = [name for name in QUARANTINE if name not in ("rule", "reason")]
    gone = aside.groupBy(*alike).agg(F.count(F.lit(1)).alias("gone")).alias("q")
    order = [F.col(name).desc_nulls_first() for name in EVENT]
    rank = F.row_number().over(Window.partitionBy(*alike).orderBy(*order))
    same = [F.col(f"r.{name}").eqNullSafe(F.col(f"q.{name}")) for name in alike]
    ranked = rows.withColumn("rank", rank).alias("r").join(gone, same, "left")
    left = ranked.where("q.gone IS NULL OR r.rank > q.gone")
    return left.select(*(F.col(f"r.{name}") for name in _silver(rows)))


def _silver(checked: DataFrame) -> list[str]:
    return [*SILVER, *([FIELDS] if FIELDS in checked.columns else [])]


def _columns(names: Sequence[str]) -> list[Column]:
    return [F.col(f"`{name}`") for name in names]
