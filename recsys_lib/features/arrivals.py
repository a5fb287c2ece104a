"""What a window is made of: events that came in time, and late ones that only history learns of.

An event is on time where its window was still open when it came; it is held back until that
window is prepared, however early it came. An event whose window was closed is late: never a
target and in no history of this window, but in all that are made after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.tables import FEATURES, Lake, closed_window
from recsys_lib.types import Increment


@dataclass(frozen=True)
class Arrivals:
    """`events` are silver rows with a boolean column `late`; `increment` is what to mark read."""

    increment: Increment
    events: DataFrame
    some_late: bool


def arrivals(lake: Lake, window: int) -> Arrivals | None:
    """The events of `window`, the same after a crash; None where there are none at all."""
    closed = closed_window(lake)
    held = _held(lake, closed)
    fresh = _fresh(lake, window, held)
    if fresh is None:
        return None
    first, last = fresh.first_window, fresh.last_window
    some_late = closed is not None and first is not None and first <= closed
    it = F.coalesce("window", F.lit(window))
    late = F.lit(False) if closed is None else it <= closed
    parts: list[DataFrame] = []
    if fresh.to_version > fresh.from_version:
        rows = lake.read(fresh)
        if held:  # what is on time is read below, old and new together
            parts = [rows.where(late | F.col("window").isNull())]
        else:
            parts = [
                rows.where((it <= window) | late) if last is not None and last > window else rows
            ]
    if held and closed is not None:
        now = lake.read("silver", version=fresh.to_version - 1)
        parts = [*parts, now.where((F.col("window") > closed) & (F.col("window") <= window))]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.unionByName(part, allowMissingColumns=True)
    return Arrivals(fresh, whole.withColumn("late", late), some_late)


def _held(lake: Lake, closed: int | None) -> bool:
    """Whether silver that was read before holds events of windows that are still open."""
    rows = lake.ledger.rows("silver", FEATURES)
    lasts = [row["last_window"] for row in rows if row["state"] == "read"]
    return closed is not None and any(last is not None and last > closed for last in lasts)


def _fresh(lake: Lake, window: int, held: bool) -> Increment | None:
    """The silver that nobody prepared yet; an empty range where only held events are due."""
    name = f"{FEATURES}:{window}"
    pinned = lake.ledger.rows("silver", name)
    if pinned:
        return _nothing(pinned[0]["to_version"])
    fresh = lake.next_increment("silver", FEATURES)
    if fresh is None and held:
        fresh = _nothing(lake.ledger.position("silver", FEATURES)[1])
        # Silver may have grown when this is repeated after a crash; the range must not.
        lake.ledger.write(fresh, name, "open", window=window)
    return fresh


def _nothing(version: int) -> Increment:
    return Increment("silver", version, version)
