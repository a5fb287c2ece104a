"""Rows and what the lake knows of them -> the rule that each breaks, if any."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.clean.facts import numbers, with_fences, with_sales, with_user_events
from recsys_lib.clean.near import near_keys
from recsys_lib.clean.refine import by_item, used
from recsys_lib.clean.rules import near_duplicate
from recsys_lib.clean.split import IN_MEMORY, check_rows
from recsys_lib.clean.statistics import Known, known
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings
from recsys_lib.tables import Lake
from recsys_lib.types import Increment


def judged(
    lake: Lake,
    rows: DataFrame,
    fresh: Increment,
    mapping: Mapping,
    settings: CleanSettings,
    before: Known | None,
) -> DataFrame:
    """`rows` of bronze with `rule` and `reason` (see `check_rows`).

    `fresh` says how many they are, of which windows, and up to which version of bronze counts;
    `before` is what was known of numbers. Silver must be as it was before these rows. What is not
    set costs nothing: each fact is looked up only for its own rule.
    """
    silver = lake.read("silver") if lake.exists("silver") else None
    if settings.max_user_events is not None:
        landed = _of_windows(lake.read("bronze", version=fresh.to_version - 1), fresh, 0)
        rows = with_user_events(rows, landed, settings.user_events_per)
    if mapping.returns is not None:
        recent = _recent(silver, fresh, settings)
        rows = with_sales(rows, recent, mapping, settings, broadcast=fresh.rows <= IN_MEMORY)
    if any(column.outlier != "off" for column in numbers(settings).values()):
        rows = with_fences(rows, before, settings)
    checked = check_rows(rows, mapping, settings)
    if settings.near_seconds:
        near = None if silver is None else _of_windows(silver, fresh, 1)
        checked = _without_near(checked, near, settings)
    return checked


def looks_around(mapping: Mapping, settings: CleanSettings) -> bool:
    """Whether judging asks for more than the row itself, so that it is better done once."""
    outliers = any(column.outlier != "off" for column in numbers(settings).values())
    bots, near = settings.max_user_events is not None, settings.near_seconds > 0
    return outliers or bots or near or mapping.returns is not None


def known_before(lake: Lake, landed: int, settings: CleanSettings) -> Known | None:
    """What the increments before the one `landed` tell; None before the first."""
    if not used(settings) or not lake.exists("statistics"):
        return None
    before = lake.read("statistics").where(F.col("landed") < landed)
    return known(before, by_item(settings))


def _without_near(
    checked: DataFrame, silver: DataFrame | None, settings: CleanSettings
) -> DataFrame:
    rule = near_duplicate(settings)
    good = checked.where(F.col("rule").isNull())
    near = near_keys(good, silver, settings.near_seconds).withColumn("_near", F.lit(True))
    marked = checked.join(near, "key", "left")
    broken = F.col("rule").isNull() & rule.broken()
    return marked.withColumns(
        {
            "reason": F.when(broken, F.lit(rule.reason)).otherwise(F.col("reason")),
            "rule": F.when(broken, F.lit(rule.name)).otherwise(F.col("rule")),
        }
    )


def _recent(
    silver: DataFrame | None, fresh: Increment, settings: CleanSettings
) -> DataFrame | None:
    if silver is None or settings.return_windows is None or fresh.first_window is None:
        return silver
    return silver.where(F.col("window") >= fresh.first_window - settings.return_windows)


def _of_windows(rows: DataFrame, fresh: Increment, around: int) -> DataFrame:
    """Files of other windows are not even opened, so the cost does not grow with history."""
    if fresh.first_window is None or fresh.last_window is None:
        return rows
    first, last = fresh.first_window - around, fresh.last_window + around
    return rows.where(F.col("window").between(first, last))
