"""The window axis: which window an event falls into, and where within it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys_lib.errors import SettingsError
from recsys_lib.expressions import column, stamp
from recsys_lib.mapping import Mapping
from recsys_lib.tables import Lake
from recsys_lib.types import LAST_FRACTION

DAY = 86_400.0
TABLE = "axis"
NEAR, DRIFT = 3, 0.05
UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}


@dataclass(frozen=True)
class Axis:
    """Window w covers [start + w·days, start + (w + 1)·days); `start` null: no times at all."""

    start: datetime | None
    days: float

    def to_json(self) -> str:
        start = self.start.isoformat() if self.start else None
        return json.dumps({**asdict(self), "start": start})

    @staticmethod
    def from_json(text: str) -> Axis:
        found = json.loads(text)
        start = _utc(datetime.fromisoformat(found["start"])) if found["start"] else None
        return Axis(start, found["days"])


def kept_axis(lake: Lake) -> Axis | None:
    """The axis that was fixed when the first records came; None where none was."""
    for row in lake.small(TABLE):
        return Axis.from_json(row["axis"])
    return None


def keep_axis(lake: Lake, axis: Axis) -> None:
    """Fix the axis for whatever comes after; the first one that is kept counts."""
    if axis.start is None or lake.done(TABLE, TABLE, 0):
        return
    rows = lake.spark.createDataFrame([(axis.to_json(),)], "axis string")
    lake.append_once(TABLE, rows.coalesce(1), app=TABLE, version=0)


def event_time(rows: DataFrame, mapping: Mapping) -> Column:
    """When it happened; null where the log does not say so, or not in a way Spark reads."""
    time = mapping.time
    if time.timestamp is not None:
        found = column(time.timestamp, rows)
        if isinstance(rows.select(found.alias("it")).schema["it"].dataType, T.StringType):
            # Spark takes 12:30 for that hour of the day on which it reads it.
            found = F.when(found.rlike(r"^\s*[+-]?\d{4}"), found)
        return found.cast("timestamp")
    if time.epoch is not None:
        micros = column(time.epoch, rows).cast("double") * F.lit(UNITS[time.unit])
        return F.timestamp_micros(F.round(micros).cast("bigint"))
    return F.lit(None).cast("timestamp")


def find_axis(rows: DataFrame, mapping: Mapping, earliest: str) -> Axis:
    """The mapping's axis. Without `windows.start`, one pass over the log finds its first day."""
    windows = mapping.windows
    if mapping.time.period is not None:
        return Axis(None, windows.days)
    if windows.start is not None:
        try:
            return Axis(_utc(datetime.fromisoformat(windows.start)), windows.days)
        except ValueError:
            wanted = f"windows.start must be an ISO time, got {windows.start!r}"
            raise SettingsError(mapping.name, [wanted]) from None
    time = event_time(rows, mapping)
    counted = _counted(rows, mapping)
    it = rows.select(time.alias("time"), counted.alias("counted"))
    sane = it.where(plausible(F.col("time"), earliest, F.current_timestamp()))
    # Seconds, not timestamps: collected timestamps come in the zone of this process.
    begins = F.min(F.when(F.col("counted").isNotNull(), F.struct("time", "counted")))
    first = sane.agg(
        F.unix_seconds(F.date_trunc("day", F.min("time"))).alias("day"),
        begins["counted"].alias("counted"),
    ).collect()[0]
    if first["day"] is None:
        return Axis(None, windows.days)
    # A column that counts windows may start anywhere: its first one starts at the first midnight.
    start = first["day"] - (first["counted"] or 0) * windows.days * DAY
    return Axis(_from_seconds(start), windows.days)


def plausible(time: Column, earliest: str, now: Column) -> Column:
    """Neither before `earliest` nor more than a day ahead of `now`."""
    return (time >= F.lit(earliest).cast("timestamp")) & (time <= now + F.expr("INTERVAL 1 DAY"))


def place(
    rows: DataFrame, mapping: Mapping, axis: Axis, time: Column, earliest: str
) -> tuple[Column, Column]:
    """(window, at) of each row; both null where the time is missing or not plausible, or a counted
    window is far from where the time falls."""
    if mapping.time.period is not None:
        window = _whole(column(mapping.time.period, rows))
        return window, window.cast("double")
    sane = plausible(time, earliest, stamp(F.current_timestamp()))
    if axis.start is None:
        none = F.lit(None)
        return none.cast("int"), none.cast("double")
    seconds = F.unix_micros(time) / F.lit(1e6) - F.lit(_seconds(axis.start))
    exact = seconds / F.lit(axis.days * DAY)
    if mapping.windows.column is None:
        window = F.floor(exact).cast("int")
    else:
        window = _counted(rows, mapping)
        sane = sane & (F.abs(window - F.floor(exact)) <= _most_apart(exact))
    within = F.least(F.greatest(exact - window, F.lit(0.0)), F.lit(LAST_FRACTION))
    return F.when(sane, window), F.when(sane, window + within)


def _counted(rows: DataFrame, mapping: Mapping) -> Column:
    text = mapping.windows.column
    return F.lit(None).cast("int") if text is None else _whole(column(text, rows))


def _whole(number: Column) -> Column:
    """As int; null where it is none. A cast of a larger one would wrap, or be the largest."""
    exact = number.cast("double")
    return F.when(exact.between(-(2**31), 2**31 - 1), number.cast("int"))


def _most_apart(exact: Column) -> Column:
    """Windows between a counted one and that of the time: months are not all as long as `days`."""
    return F.lit(NEAR) + F.abs(exact) * F.lit(DRIFT)


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _seconds(time: datetime) -> float:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


def _from_seconds(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
