"""Which items are taken near which: co-occurrence counts that every increment adds to.

Two events of one user are near when at most `neighbour_distance` positions lie between them; a
pair weighs one over its distance. What happened at one time has no order, so its events are
shuffled (by a hash, the same in every run): each pair of a basket then has the same chance. What
histories know of a user comes before all that is new, so pairs cross the seam of two increments.

An increment writes anew what it has touched, behind what was there: the state is, of each (item,
fold), the row of its latest window. Once in a while all of it is written, as a `base`, so that
nobody reads further back than that.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_lib.features.vocabulary import lookup
from recsys_lib.settings import FeatureSettings
from recsys_lib.types import FOLDS

PARTS = 16
WINDOWS_OF_A_BASE = 8
"""Prepared windows that stand on one base, itself among them."""
SCHEMA = (
    "item int, fold int, near array<struct<weight: double, item: int>>, mass double, `window` int"
)


def fold() -> Column:
    """The user's fold: training counts neighbours without it, so that no target counts itself."""
    return F.pmod(F.xxhash64("user"), F.lit(FOLDS)).cast("int")


def coded(events: DataFrame, vocabulary: DataFrame) -> DataFrame:
    """These silver events by the index of their item, with the fold of their user; all `new`."""
    known = events.join(lookup(vocabulary, "item", "item", "index"), "item")
    return known.withColumns({"fold": fold(), "new": F.lit(True)})


def after_known(coded: DataFrame, histories: DataFrame, distance: int) -> DataFrame:
    """`coded` and, not `new`, what its users did last: at most `distance` events of each."""
    mine = histories.join(coded.select("user").distinct(), "user", "left_semi")
    latest_first = F.reverse(F.filter("items", lambda item: item > 0))
    last = F.posexplode(F.slice(latest_first, 1, distance)).alias("back", "index")
    known = mine.select("user", last).select(
        "user",
        "index",
        (-F.col("back")).cast("bigint").alias("order"),
        fold().alias("fold"),
        F.lit(False).alias("new"),
    )
    return coded.unionByName(known, allowMissingColumns=True)


def pairs(coded: DataFrame, distance: int) -> DataFrame:
    """(item, fold, other, weight): every near pair with a new event, both ways, unsummed."""
    order = Window.partitionBy("user").orderBy("new", "time", "window", "order", F.xxhash64("key"))
    # Known events come first: a pair has a new one where its later one is new.
    index = F.when(F.col("new"), F.col("index"))
    ahead = [F.lead(index, k + 1).over(order).alias(f"after_{k}") for k in range(distance)]
    told = coded.select("fold", F.col("index").alias("item"), *ahead)
    near = [
        F.struct(
            F.col(one).alias("item"),
            F.col(two).alias("other"),
            F.lit(1.0 / (place + 1)).alias("weight"),
        )
        for place in range(distance)
        for one, two in (("item", f"after_{place}"), (f"after_{place}", "item"))
    ]
    listed = told.select("fold", F.inline(F.array(*near)))
    real = listed.where("item IS NOT NULL AND other IS NOT NULL AND other <> item")
    return real.select("item", "fold", "other", "weight")


def base_of(window: int, written: Iterable[tuple[int, int]]) -> int:
    """The base that `window` stands on, given the (base, window) of all that was written before;
    itself where it must be one."""
    bases = [base for base, _ in written]
    last = max(bases, default=window)
    return window if bases.count(last) >= WINDOWS_OF_A_BASE else last


def neighbours_after(
    before: DataFrame | None,
    coded: DataFrame,
    window: int,
    settings: FeatureSettings,
    *,
    whole: bool = False,
) -> DataFrame:
    """SCHEMA: the new state of every (item, fold) of these events; if `whole`, of all there are.

    `before` holds the rows since the last base. `coded` is as `coded` gives it or, where there
    were events before, `after_known`.

    Older weights count `neighbour_decay` less per window; only the heaviest `neighbours_kept` of
    an item are kept, as a sketch of bounded size (Metwally et al. 2005 keep heavy hitters so).
    """
    every = pairs(coded, settings.neighbour_distance).withColumn("mass", F.col("weight"))
    if before is not None:
        told = before if whole else before.join(_keys(coded), ["item", "fold"], "left_semi")
        every = every.unionByName(_aged(told, window, settings.neighbour_decay))
    # One shuffle by item serves all that follows, in parts small enough not to spill.
    by_item = every.repartition(PARTS, "item").groupBy("item", "fold", "other")
    summed = by_item.agg(F.sum("weight").alias("weight"), F.sum("mass").alias("mass"))
    # Heaviest first, ties to the smaller item, whatever the order of the rows.
    less, other = (-F.col("weight")).alias("less"), F.col("other").alias("item")
    one = F.struct(less, other, F.struct("weight", other).alias("kept"))
    rows = summed.groupBy("item", "fold").agg(
        F.slice(F.sort_array(F.collect_list(one)), 1, settings.neighbours_kept).alias("all"),
        F.sum("mass").alias("mass"),
    )
    at = F.lit(window).cast("int").alias("window")
    return rows.select("item", "fold", F.col("all.kept").alias("near"), "mass", at)


def _keys(coded: DataFrame) -> DataFrame:
    return coded.select(F.col("index").alias("item"), "fold").distinct()


def _aged(told: DataFrame, window: int, decay: float) -> DataFrame:
    """The state that was told last, by pair, as it counts now.

    The mass of an item stands at the first of its pairs, so that nothing is read or joined twice.
    """
    last = F.max_by(F.struct("near", "mass", "window"), "window").alias("last")
    state = told.groupBy("item", "fold").agg(last).select("item", "fold", "last.*")
    age = F.pow(F.lit(decay), F.lit(window) - F.col("window")).alias("age")
    pair = F.posexplode("near").alias("place", "pair")
    mass = F.when(F.col("place") == 0, F.col("mass") * F.col("age")).otherwise(0.0)
    return state.select("item", "fold", "mass", age, pair).select(
        "item",
        "fold",
        F.col("pair.item").alias("other"),
        (F.col("pair.weight") * F.col("age")).alias("weight"),
        mass.alias("mass"),
    )
