"""Live rows: cleaned at once, and a window closed when its watermark has passed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from jobs.context import Context
from jobs.prepare import settle
from recsys_lib.adapters.lake import Lake
from recsys_lib.settings import load_settings
from recsys_lib.tables import closed_window
from tests.clean.test_clean import GOOD, MAPPING, arrive


def at(place: float, **row: Any) -> dict[str, Any]:
    when = GOOD["time"] + timedelta(days=7 * (place - 1))
    arrived = GOOD["arrived"] + timedelta(days=99)
    return {"window": int(place), "at": place, "time": when, "arrived": arrived, **row}


def context(lake: Lake, folder: Path) -> Context:
    settings = load_settings(overrides=["clean.watermark.windows=0.5"])
    nothing: Any = None  # no landing folder is looked at
    return Context(settings, MAPPING, folder, lake.spark, lake, nothing)


def test_windows_are_closed_by_the_watermark_and_what_comes_after_is_late(
    lake: Lake, tmp_path: Path
) -> None:
    live = context(lake, tmp_path)
    arrive(lake, 0, at(0.2, key="a"), at(1.6, key="b"))
    assert list(settle(live)) == [0], "1.6 is more than half a window past its end"
    arrive(lake, 1, at(0.9, key="late"), at(1.8, key="c"), at(2.4, key="d"))
    assert settle(live) == {}, "a window stays open for another half"
    assert closed_window(lake) == 0
    arrive(lake, 2, at(1.9, key="e"), at(3.6, key="f"))
    done = settle(live)
    assert {w: (n["events"], n["late"]) for w, n in done.items()} == {1: (4, 1), 2: (1, 0)}
    assert settle(live) == {}
    late = {r["key"] for r in lake.read("silver").where("late").collect()}
    assert late == {"late"}
    assert lake.read("silver").count() == 7
