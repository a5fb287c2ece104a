"""Good rows -> silver rows: gaps filled, numbers normalised, columns crossed. All only if set.

Silver gets a column only for what is set: `filled` (names), `value_normal` and so on,
`cross_<name>`, and `statistics`, the version of bronze up to which the statistics reach that the
row was refined with.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_lib.clean.facts import numbers, statistic, with_known
from recsys_lib.clean.statistics import NUMBERS, Known, bucket, squeezed
from recsys_lib.settings import CleanSettings, ColumnSettings, CrossSettings, FilledSettings


def used(settings: CleanSettings) -> list[str]:
    """The numbers whose statistics anything needs."""
    crossed = {part for cross in settings.crosses.values() for part in cross.of}
    return [
        name
        for name, column in numbers(settings).items()
        if column.outlier != "off"
        or column.normalise in ("zscore", "minmax")
        or _fill(column) != "off"
        or name in crossed
    ]


def by_item(settings: CleanSettings) -> bool:
    """Whether statistics are needed item by item."""
    columns = numbers(settings).values()
    return any(c.by == "item" or _fill(c) == "interpolate" for c in columns)


def refined(
    valid: DataFrame, before: Known | None, own: Known | None, settings: CleanSettings
) -> DataFrame:
    """`before` is what was known before these rows (see `statistics.Known`), None for the first.

    Then nothing is filled but what the rows themselves surround; for normal forms and crosses,
    which judge nobody, the rows' `own` statistics count.
    """
    columns = numbers(settings)
    filled = {n: c for n, c in columns.items() if isinstance(c, FilledSettings) and c.fill != "off"}
    normal = {n: c for n, c in columns.items() if c.normalise != "off"}
    if not filled and not normal and not settings.crosses:
        return valid
    names, items = used(settings), by_item(settings)
    silver = valid.columns
    rows = valid
    if filled:
        rows = _filled(with_known(rows, before, names, items), filled)
        silver = [*silver, "filled"]
        rows = rows.select(*(F.col(f"`{c}`") for c in silver))
    if not normal and not settings.crosses:
        return rows
    known = own if before is None else before
    rows = with_known(rows, known, names, items)
    made = {f"{name}_normal": _normal(name, column) for name, column in normal.items()}
    whole = {} if known is None else known.whole
    crosses = {f"cross_{n}": _cross(cross, whole) for n, cross in settings.crosses.items()}
    reached = max((told["landed"] for told in whole.values()), default=None)
    made = {**made, **crosses, "statistics": F.lit(reached).cast("bigint")}
    return rows.withColumns(made).select(*(F.col(f"`{c}`") for c in (*silver, *made)))


def _fill(column: ColumnSettings) -> str:
    return column.fill if isinstance(column, FilledSettings) else "off"


def _filled(rows: DataFrame, columns: dict[str, FilledSettings]) -> DataFrame:
    values: dict[str, Column] = {}
    for name, column in columns.items():
        known = statistic(name, column)
        if column.fill == "interpolate":
            value = _between(name, F.col(f"_last_{name}"))
        else:
            value = known[column.fill]
        values = {**values, name: F.coalesce(F.col(name), value)}
    missing = [
        F.when(F.col(name).isNull() & value.isNotNull(), F.lit(name))
        for name, value in values.items()
    ]
    made = rows.withColumn("filled", F.array_compact(F.array(*missing)))
    return made.withColumns(values)


def _between(name: str, last: Column) -> Column:
    """On the line in time between the item's values before and after; else the nearer one's."""
    in_time = Window.partitionBy("item").orderBy("time", "window", "order", "key")
    told = F.when(F.col(name).isNotNull(), F.struct("time", F.col(name).alias("x")))
    earlier = F.last(told, True).over(in_time.rowsBetween(Window.unboundedPreceding, -1))
    known = F.when(last.isNotNull(), F.struct(last["time"].alias("time"), last["x"].alias("x")))
    before = F.coalesce(earlier, known)
    after = F.first(told, True).over(in_time.rowsBetween(1, Window.unboundedFollowing))
    micros = [F.unix_micros(t) for t in (before["time"], F.col("time"), after["time"])]
    span = micros[2] - micros[0]
    share = F.when(
        span > 0, F.least(F.greatest((micros[1] - micros[0]) / span, F.lit(0)), F.lit(1))
    )
    line = before["x"] + (after["x"] - before["x"]) * share
    return F.coalesce(line, before["x"], after["x"])


def _normal(name: str, column: ColumnSettings) -> Column:
    x = NUMBERS[name]()
    if column.normalise == "log":
        return squeezed(x)
    it = statistic(name, column)
    if column.normalise == "minmax":
        spread = it["high"] - it["low"]
        return F.when(spread > 0, (x - it["low"]) / spread)
    mean, sd = ("log_mean", "log_sd") if column.log else ("mean", "sd")
    x = squeezed(x) if column.log else x
    return F.when(it[sd] > 0, (x - it[mean]) / it[sd])


def _cross(cross: CrossSettings, whole: dict[str, dict[str, Any]]) -> Column:
    """1 to `buckets`; 0 where a part is missing."""
    parts = [_part(name, whole) for name in cross.of]
    some = F.lit(True)
    for part in parts:
        some = some & part.isNotNull()
    hashed = F.pmod(F.xxhash64(F.to_json(F.array(*parts))), F.lit(cross.buckets)) + 1
    return F.when(some, hashed).otherwise(F.lit(0)).cast("int")


def _part(name: str, whole: dict[str, dict[str, Any]]) -> Column:
    if name in NUMBERS:
        x = NUMBERS[name]()
        # By buckets: a decile is known no finer, and equal values belong on one side of it.
        cuts = sorted(set(whole[name]["cuts"])) if name in whole else []
        place = F.lit(0)
        for cut in cuts:
            place = place + (bucket(x) > bucket(F.lit(cut))).cast("int")
        return F.when(x.isNotNull(), place).cast("string")
    made = {"hour": F.hour("time"), "weekday": F.weekday("time")}
    return made.get(name, F.col(name)).cast("string")
