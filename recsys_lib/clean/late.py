"""When a window may be closed, and which events come after that."""

from __future__ import annotations

import math
import warnings

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_lib.settings import CleanSettings, WatermarkSettings
from recsys_lib.tables import Lake, closed_window
from recsys_lib.windows import FAR, left_out, within_reach

DAY = 86_400.0


def late(closed: int | None) -> Column:
    """Whether the event's window was closed when it came; such an event is never a target."""
    if closed is None:
        return F.lit(False)
    return F.coalesce(F.col("window") <= closed, F.lit(False))


def closable_window(
    lake: Lake, settings: CleanSettings, days: float, *, counted: bool = False, alone: int = 3
) -> int | None:
    """The last window that may be closed now; None if none may that is not closed already.

    Every source of silver must have passed its end by the source's watermark. A source that was
    silent in all open windows is not waited for, nor one that fell `idle_windows` behind the
    furthest: a log that was landed first may end in the middle of a window. Nobody has passed a
    time that is yet to come: one event of a clock that is fast closes nothing. `days` is the length
    of a window. Where windows are `counted`, without times, a wrong number is not seen by itself:
    the last one is passed by none while it stands `alone` by so many windows.
    """
    if not lake.exists("silver"):
        return None
    closed = closed_window(lake)
    rows = lake.read("silver")
    rows = rows if closed is None else rows.where(F.col("window") > closed)
    if counted:
        rows = rows.where(F.col("window") <= F.lit(_reached(rows, closed, alone)))
    passed_by = F.coalesce(F.col("time") <= F.current_timestamp(), F.lit(True))
    newest = rows.groupBy("source").agg(
        F.max(F.when(passed_by, F.col("at"))).alias("at"), F.min("window").alias("first")
    )
    told = [row for row in newest.collect() if row["at"] is not None]
    if not told:
        return None
    marks = [settings.watermarks.get(row["source"], settings.watermark) for row in told]
    passed = [row["at"] - _windows(mark, days) for row, mark in zip(told, marks, strict=True)]
    ends = [max(passed) - mark.idle_windows for mark in marks]
    last = math.floor(min(map(max, passed, ends))) - 1
    return last if last >= min(row["first"] for row in told) else None


def _reached(rows: DataFrame, closed: int | None, alone: int) -> int | None:
    """The last window that is no wrong number; None where there is none."""
    found = rows.select("window").distinct().orderBy("window").limit(FAR).collect()
    windows = [row["window"] for row in found if row["window"] is not None]
    have = windows if closed is None else [closed, *windows]
    near = within_reach(have, alone=alone)
    if len(near) < len(have):
        warnings.warn(left_out(near, have), stacklevel=3)
    return near[-1] if near else None


def _windows(mark: WatermarkSettings, days: float) -> float:
    return mark.windows + mark.seconds / (days * DAY)
