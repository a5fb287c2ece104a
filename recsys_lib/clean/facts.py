"""What a rule must know of a row beyond its own columns: joined to the rows, judged by rules.

Helper columns start with an underscore and never reach a table.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_lib.clean.statistics import NUMBERS, squeezed, stretched
from recsys_lib.mapping import RETURN, Mapping
from recsys_lib.settings import CleanSettings, ColumnSettings

FIELDS = ("n", "mean", "sd", "log_mean", "log_sd", "q1", "median", "q3", "low", "high", "last")


def numbers(settings: CleanSettings) -> dict[str, ColumnSettings]:
    """The settings of each number that rules and refinements look at."""
    return {name: getattr(settings, name) for name in NUMBERS}


def with_known(rows: DataFrame, known: DataFrame, names: list[str], by_item: bool) -> DataFrame:
    """`rows` with `_all_<name>` and `_item_<name>`: structs of FIELDS, null where unknown."""
    whole = known.where("item IS NULL")
    picked = [
        F.first(F.when(F.col("name") == n, F.struct(*FIELDS)), ignorenulls=True).alias(f"_all_{n}")
        for n in names
    ]
    joined = rows.crossJoin(F.broadcast(whole.agg(*picked)))
    if not by_item:
        return joined
    one = known.where("item IS NOT NULL").groupBy("item")
    of_item = [picked_of.alias(f"_item_{n}") for picked_of, n in zip(picked, names, strict=True)]
    return joined.join(one.agg(*of_item), "item", "left")


def statistic(name: str, settings: ColumnSettings, *, otherwise_all: bool) -> Column:
    """The struct that counts for a row: its item's where it has enough values behind it."""
    if settings.by == "all":
        return _enough(F.col(f"_all_{name}"), settings)
    mine = _enough(F.col(f"_item_{name}"), settings)
    return F.coalesce(mine, _enough(F.col(f"_all_{name}"), settings)) if otherwise_all else mine


def with_fences(rows: DataFrame, known: DataFrame | None, settings: CleanSettings) -> DataFrame:
    """`_low_<name>` and `_high_<name>` for every column whose outliers are looked for."""
    judged = {n: s for n, s in numbers(settings).items() if s.outlier != "off"}
    if not judged:
        return rows
    none = F.lit(None).cast("double")
    if known is None:
        return rows.withColumns({f"_{side}_{n}": none for n in judged for side in ("low", "high")})
    by_item = any(s.by == "item" for s in judged.values())
    joined = with_known(rows, known, list(judged), by_item)
    fences: dict[str, Column] = {}
    for name, chosen in judged.items():
        low, high = _fences(statistic(name, chosen, otherwise_all=False), chosen)
        fences = {**fences, f"_low_{name}": low, f"_high_{name}": high}
    return (
        joined.withColumns(fences)
        .select("*")
        .drop(*(f"_{scope}_{n}" for n in judged for scope in ("all", "item")))
    )


def with_user_events(rows: DataFrame, landed: DataFrame | None, per: str) -> DataFrame:
    """`_user_events`: how many different events the user has in the row's window or hour.

    `landed` are the bronze rows of these windows up to now, `rows` among them, so that what a
    user did counts whole however it was cut into increments, quarantined or not.
    """
    if landed is None:
        landed = rows
    period = _period(per)
    counted = (
        landed.where("user IS NOT NULL")
        .groupBy("user", period.alias("_period"))
        .agg(F.count_distinct("key").alias("_user_events"))
    )
    return rows.withColumn("_period", period).join(counted, ["user", "_period"], "left")


def with_sales(
    rows: DataFrame, silver: DataFrame | None, mapping: Mapping, settings: CleanSettings
) -> DataFrame:
    """`_sold`: whether the user bought the item before, for rows that say it was taken back.

    A sale is an event of a target type in silver, or one of `rows` that is no return itself, up to
    `return_windows` windows before.
    """
    returned = F.col("rejected") == RETURN
    back = rows.where(returned).select("user", "item").distinct()
    sale = F.col("type").isin(*mapping.targets) if mapping.targets else F.lit(True)
    columns = ("user", "item", "time", "window", "order")
    sales = rows.where(F.col("rejected").isNull() & sale).select(*columns)
    if silver is not None:
        sales = sales.unionByName(silver.where(sale).select(*columns))
    mine = sales.join(F.broadcast(back), ["user", "item"], "left_semi")
    before = F.coalesce(F.col("a.time") >= F.col("s.time"), F.col("a.window") >= F.col("s.window"))
    if settings.return_windows is not None:
        before &= F.col("s.window") >= F.col("a.window") - settings.return_windows
    same = (F.col("a.user") == F.col("s.user")) & (F.col("a.item") == F.col("s.item")) & before
    asked = rows.where(returned).alias("a")
    sold = asked.join(mine.alias("s"), same, "left_semi").select("key").distinct()
    marked = rows.join(sold.withColumn("_sold", F.lit(True)), "key", "left")
    return marked.withColumn("_sold", F.coalesce("_sold", F.lit(False)))


def _enough(it: Column, settings: ColumnSettings) -> Column:
    return F.when(it["n"] >= settings.min_count, it)


def _fences(it: Column, settings: ColumnSettings) -> tuple[Column, Column]:
    """Null where all values are alike: then nothing is known of their spread."""
    bend = squeezed if settings.log else (lambda x: x)
    if settings.outlier == "box":  # Tukey, Exploratory Data Analysis, 1977
        q1, q3 = bend(it["q1"]), bend(it["q3"])
        spread, low, high = q3 - q1, q1, q3
    else:
        mean, sd = ("log_mean", "log_sd") if settings.log else ("mean", "sd")
        spread, low, high = it[sd], it[mean], it[mean]
    ends = [low - settings.k * spread, high + settings.k * spread]
    back = stretched if settings.log else (lambda x: x)
    found = [F.when(spread > 0, back(end)) for end in ends]
    return found[0], found[1]


def _period(per: str) -> Column:
    if per == "window":
        return F.col("window").cast("string")
    # A log without times has nothing finer than its windows.
    return F.coalesce(F.date_trunc("hour", "time").cast("string"), F.col("window").cast("string"))
