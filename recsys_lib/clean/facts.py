"""What a rule must know of a row beyond its own columns: joined to the rows, judged by rules.

Helper columns start with an underscore and never reach a table.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_lib.clean.statistics import FIELDS, NUMBERS, Known, squeezed, stretched
from recsys_lib.mapping import RETURN, Mapping
from recsys_lib.settings import CleanSettings, ColumnSettings

KINDS = {name: "bigint" if name == "n" else "double" for name in FIELDS}
LAST = "struct<time:timestamp,key:string,x:double>"


def numbers(settings: CleanSettings) -> dict[str, ColumnSettings]:
    """The settings of each number that rules and refinements look at."""
    return {name: getattr(settings, name) for name in NUMBERS}


def with_known(rows: DataFrame, known: Known | None, names: list[str], by_item: bool) -> DataFrame:
    """`rows` with `_all_<name>`, and if asked `_item_<name>` and `_last_<name>` of the item.

    The first two are structs of FIELDS, the last is (time, key, x); all null where unknown.
    """
    whole = {} if known is None else known.whole
    rows = rows.withColumns({f"_all_{name}": _literal(whole.get(name)) for name in names})
    if not by_item:
        return rows
    if known is None or known.items is None:
        none = {f"_item_{name}": _literal(None) for name in names}
        return rows.withColumns({**none, **{f"_last_{n}": F.lit(None).cast(LAST) for n in names}})
    picked = [
        F.first(F.when(F.col("name") == name, it), ignorenulls=True).alias(f"_{kind}_{name}")
        for name in names
        for kind, it in (("item", F.struct(*FIELDS)), ("last", F.col("last")))
    ]
    return rows.join(known.items.groupBy("item").agg(*picked), "item", "left")


def statistic(name: str, settings: ColumnSettings) -> Column:
    """The struct that counts for a row: its item's where it has enough values behind it."""
    whole = _enough(F.col(f"_all_{name}"), settings)
    if settings.by == "all":
        return whole
    return F.coalesce(_enough(F.col(f"_item_{name}"), settings), whole)


def with_fences(rows: DataFrame, known: Known | None, settings: CleanSettings) -> DataFrame:
    """`_low_<name>` and `_high_<name>` for every column whose outliers are looked for."""
    judged = {n: s for n, s in numbers(settings).items() if s.outlier != "off"}
    items = None if known is None else known.items
    of_all: dict[str, Column] = {}
    of_item: dict[str, Column] = {}
    for name, chosen in judged.items():
        if chosen.by == "item" and items is not None:
            mine = F.when(F.col("name") == name, F.struct(*FIELDS))
            low, high = (F.first(x, ignorenulls=True) for x in _fences(mine, chosen))
            of_item = {**of_item, f"_low_{name}": low, f"_high_{name}": high}
        else:
            told = None if known is None or chosen.by == "item" else known.whole.get(name)
            low, high = _fences(_literal(told), chosen)
            of_all = {**of_all, f"_low_{name}": low, f"_high_{name}": high}
    rows = rows.withColumns(of_all) if of_all else rows
    if items is None or not of_item:
        return rows
    # Item by item, not row by row: these are long expressions.
    found = items.groupBy("item").agg(*(it.alias(name) for name, it in of_item.items()))
    return rows.join(found, "item", "left")


def with_user_events(rows: DataFrame, landed: DataFrame, per: str) -> DataFrame:
    """`_user_events`: how many different events the user has in the row's window or hour.

    `landed` are the bronze rows of these windows up to now, so that what a user did counts whole
    however it was cut into increments, quarantined or not. `rows` may be parsed anew.
    """
    period = _period(per).alias("_period")
    columns = ("user", "time", "window", "key")
    every = landed.select(*columns).unionByName(rows.select(*columns))
    users = every.where("user IS NOT NULL").groupBy("user", period)
    counted = users.agg(F.count_distinct("key").alias("_user_events"))
    return rows.withColumn("_period", period).join(counted, ["user", "_period"], "left")


def with_sales(
    rows: DataFrame,
    silver: DataFrame | None,
    mapping: Mapping,
    settings: CleanSettings,
    *,
    broadcast: bool,
) -> DataFrame:
    """`_sold`: whether the user bought the item before, for rows that say it was taken back.

    A sale is an event of a target type in silver, or one of `rows` that is no return itself, up to
    `return_windows` windows before. Users and items of the returns fit into memory where
    `broadcast` says so.
    """
    returned = F.col("rejected") == RETURN
    back = rows.where(returned).select("user", "item").distinct()
    sale = F.col("type").isin(*mapping.targets) if mapping.targets else F.lit(True)
    columns = ("user", "item", "time", "window", "order")
    sales = rows.where(F.col("rejected").isNull() & sale).select(*columns)
    if silver is not None:
        sales = sales.unionByName(silver.where(sale).select(*columns))
    back = F.broadcast(back) if broadcast else back
    mine = sales.join(back, ["user", "item"], "left_semi")
    before = F.coalesce(F.col("a.time") >= F.col("s.time"), F.col("a.window") >= F.col("s.window"))
    if settings.return_windows is not None:
        before &= F.col("s.window") >= F.col("a.window") - settings.return_windows
    same = (F.col("a.user") == F.col("s.user")) & (F.col("a.item") == F.col("s.item")) & before
    asked = rows.where(returned).alias("a")
    sold = asked.join(mine.alias("s"), same, "left_semi").select("key").distinct()
    marked = rows.join(sold.withColumn("_sold", F.lit(True)), "key", "left")
    return marked.withColumn("_sold", F.coalesce("_sold", F.lit(False)))


def _literal(told: dict[str, Any] | None) -> Column:
    if told is None:
        return F.lit(None).cast(f"struct<{','.join(f'{n}:{kind}' for n, kind in KINDS.items())}>")
    return F.struct(*(F.lit(told[n]).cast(kind).alias(n) for n, kind in KINDS.items()))


def _enough(it: Column, settings: ColumnSettings) -> Column:
    return F.when(it["n"] >= settings.min_count, it)


def _fences(it: Column, settings: ColumnSettings) -> tuple[Column, Column]:
    """Null where too little is known, or all values are alike: nothing tells their spread."""
    it = _enough(it, settings)
    bend = squeezed if settings.log else (lambda x: x)
    if settings.outlier == "box":  # Tukey, Exploratory Data Analysis, 1977
        q1, q3 = bend(it["q1"]), bend(it["q3"])
        spread, low, high = q3 - q1, q1, q3
    else:
        mean, sd = ("log_mean", "log_sd") if settings.log else ("mean", "sd")
        spread, low, high = it[sd], it[mean], it[mean]
    ends = [low - settings.k * spread, high + settings.k * spread]
    back = stretched if settings.log else (lambda x: x)
    # What is infinite or not a number, the greatest there is in Spark, judges nothing.
    found = [F.when((spread > 0) & (F.abs(back(end)) < float("inf")), back(end)) for end in ends]
    return found[0], found[1]


def _period(per: str) -> Column:
    if per == "window":
        return F.col("window").cast("string")
    # A log without times has nothing finer than its windows.
    return F.coalesce(F.date_trunc("hour", "time").cast("string"), F.col("window").cast("string"))
