"""Which items are taken near which: co-occurrence counts that every increment adds to.

Two events of one user are near when at most `neighbour_distance` positions lie between them; a
pair weighs one over its distance. What happened at one time has no order, so its events are
shuffled (by a hash, the same in every run): each pair of a basket then has the same chance.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_lib.features.vocabulary import lookup
from recsys_lib.settings import FeatureSettings
from recsys_lib.types import FOLDS

SCHEMA = (
    "item int, fold int, near array<struct<weight: double, item: int>>, mass double, `window` int"
)


def fold() -> Column:
    """The user's fold: training counts neighbours without it, so that no target counts itself."""
    return F.pmod(F.xxhash64("user"), F.lit(FOLDS)).cast("int")


def pairs(events: DataFrame, vocabulary: DataFrame, distance: int) -> DataFrame:
    """(item, fold, other, weight): every near pair of these silver events, both ways, summed."""
    coded = events.join(lookup(vocabulary, "item", "item", "index"), "item")
    order = Window.partitionBy("user").orderBy("time", "window", "order", F.xxhash64("key"))
    ahead = [F.lead("index", k).over(order) for k in range(1, distance + 1)]
    # One row a user and position: lists of what follows, then each pair once in both directions.
    told = coded.select("user", F.col("index").alias("item"), F.array(*ahead).alias("ahead"))
    near = told.select(fold().alias("fold"), "item", F.posexplode("ahead").alias("place", "other"))
    real = near.where("other IS NOT NULL AND other <> item")
    weight = F.lit(1.0) / (F.col("place") + 1)
    counted = real.groupBy("fold", "item", "other").agg(F.sum(weight).alias("weight"))
    ends = {"item": F.col("other"), "other": F.col("item")}
    both = counted.unionByName(counted.withColumns(ends))
    return both.groupBy("fold", "item", "other").agg(F.sum("weight").alias("weight"))


def neighbours_after(
    before: DataFrame, fresh: DataFrame, window: int, settings: FeatureSettings
) -> DataFrame:
    """SCHEMA: the new state of every (item, fold) of `fresh` (see `pairs`), to be merged.

    Older weights count `neighbour_decay` less per window; only the heaviest `neighbours_kept` of
    an item are kept, as a sketch of bounded size (Metwally et al. 2005 keep heavy hitters so).
    """
    touched = before.join(fresh.select("item", "fold").distinct(), ["item", "fold"], "left_semi")
    age = F.pow(F.lit(settings.neighbour_decay), F.lit(window) - F.col("window"))
    aged = touched.withColumn("age", age)
    old = aged.select("item", "fold", "age", F.inline("near").alias("weight", "other"))
    old = old.select("item", "fold", "other", (F.col("weight") * F.col("age")).alias("weight"))
    mass = [
        aged.select("item", "fold", (F.col("mass") * F.col("age")).alias("mass")),
        fresh.groupBy("item", "fold").agg(F.sum("weight").alias("mass")),
    ]
    both = mass[0].unionByName(mass[1])
    total = both.groupBy("item", "fold").agg(F.sum("mass").alias("mass"))
    summed = old.unionByName(fresh.select("item", "fold", "other", "weight"))
    summed = summed.groupBy("item", "fold", "other").agg(F.sum("weight").alias("weight"))
    # Heaviest first, ties to the smaller item, whatever the order of the rows.
    one = F.struct((-F.col("weight")).alias("less"), F.col("other").alias("item"))
    listed = summed.groupBy("item", "fold").agg(F.array_sort(F.collect_list(one)).alias("all"))
    kept = F.transform(
        F.slice("all", 1, settings.neighbours_kept),
        lambda it: F.struct((-it["less"]).alias("weight"), it["item"].alias("item")),
    )
    rows = listed.select("item", "fold", kept.alias("near")).join(total, ["item", "fold"])
    return rows.select("item", "fold", "near", "mass", F.lit(window).cast("int").alias("window"))
