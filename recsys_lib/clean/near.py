"""Near duplicates: the same user, item and type within a few seconds of an event that is kept.

Of the previous *kept* event, not simply the previous: otherwise a click every few seconds would
chain into one event however long it goes on. Cutting a log in time into more increments does not
change what is kept.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

SAME = ("user", "item", "type")


def near_keys(good: DataFrame, silver: DataFrame | None, seconds: float) -> DataFrame:
    """The keys of `good` rows that are near duplicates of an earlier one, or of `silver`.

    `silver` may be limited to the windows around those of `good`. A row that silver holds itself
    is left to the rule for exact duplicates.
    """
    micros = F.unix_micros("time")
    new = (
        good.where("time IS NOT NULL")
        .groupBy("key")
        .agg(
            *(F.min_by(name, F.struct("time", *SAME)).alias(name) for name in SAME),
            F.min(micros).alias("at"),
        )
    )
    span = round(seconds * 1e6)
    alone = new
    if silver is not None:
        there = silver.where("time IS NOT NULL").select("key", *SAME, micros.alias("at"))
        groups = new.select(*SAME).distinct()
        alone, near_silver = _beside(new, there.join(groups, list(SAME), "left_semi"), span)
    among = _repeated(alone, span)
    return among if silver is None else among.unionByName(near_silver)


def _beside(new: DataFrame, there: DataFrame, span: int) -> tuple[DataFrame, DataFrame]:
    """(rows that are far from all that silver has, keys of those that are near)."""
    known = F.when(F.col("known"), F.col("at"))
    timeline = new.withColumn("known", F.lit(False)).unionByName(
        there.withColumn("known", F.lit(True))
    )
    in_time = Window.partitionBy(*SAME).orderBy("at", "key", "known")
    before = F.last(known, True).over(in_time.rowsBetween(Window.unboundedPreceding, -1))
    after = F.first(known, True).over(in_time.rowsBetween(1, Window.unboundedFollowing))
    itself = F.max("known").over(Window.partitionBy(*SAME, "key"))
    placed = timeline.withColumns({"before": before, "after": after, "itself": itself})
    mine = placed.where(~F.col("known") & ~F.col("itself"))
    near = F.coalesce(F.col("at") - F.col("before") <= span, F.lit(False)) | F.coalesce(
        F.col("after") - F.col("at") <= span, F.lit(False)
    )
    return mine.where(~near).select("key", *SAME, "at"), mine.where(near).select("key")


def _repeated(rows: DataFrame, span: int) -> DataFrame:
    """Keys that are not kept when each group is walked in time, within runs of close events."""
    in_time = Window.partitionBy(*SAME).orderBy("at", "key")
    gap = F.col("at") - F.lag("at").over(in_time) > span
    runs = rows.withColumn("run", F.sum(F.coalesce(gap, F.lit(True)).cast("int")).over(in_time))
    event = F.struct("at", "key")
    walked = runs.groupBy(*SAME, "run").agg(
        F.array_sort(F.collect_list(event)).alias("events"), F.count(F.lit(1)).alias("size")
    )
    several = walked.where("size > 1")
    kept = F.transform(F.reduce("events", _nothing(), _walk(span))["kept"], lambda it: it["key"])
    return several.select(
        F.explode(F.array_except(F.transform("events", lambda it: it["key"]), kept)).alias("key")
    )


def _nothing() -> Column:
    none = F.array().cast("array<struct<at:bigint,key:string>>")
    return F.struct(F.lit(None).cast("bigint").alias("last"), none.alias("kept"))


def _walk(span: int):  # type: ignore[no-untyped-def]
    def step(acc: Column, it: Column) -> Column:
        near = F.coalesce(it["at"] - acc["last"] <= span, F.lit(False))
        kept = F.when(near, acc["kept"]).otherwise(F.array_append(acc["kept"], it))
        last = F.when(near, acc["last"]).otherwise(it["at"])
        return F.struct(last.alias("last"), kept.alias("kept"))

    return step
