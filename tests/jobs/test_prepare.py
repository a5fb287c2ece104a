"""Live rows: cleaned at once, and a window closed when its watermark has passed."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.context import Context
from jobs.prepare import _due, settle
from jobs.reingest import bring_back
from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.sources.replay import ReplayFolder
from recsys_lib.clean.reingest import Selection
from recsys_lib.errors import SourceError
from recsys_lib.mapping import Mapping
from recsys_lib.settings import load_settings
from recsys_lib.tables import closed_window
from tests.clean.test_clean import GOOD, MAPPING, arrive, killed_before_silver

GIFT = '{"u": "x", "i": "y", "t": "2020-01-03"}'
WINDOWS = {"history": 1, "start": "2020-01-01"}
ONCE: dict[str, Any] = {"app": "test", "version": 0}


def at(place: float, **row: Any) -> dict[str, Any]:
    when = GOOD["time"] + timedelta(days=7 * (place - 1))
    arrived = GOOD["arrived"] + timedelta(days=99)
    return {"window": int(place), "at": place, "time": when, "arrived": arrived, **row}


def context(lake: Lake, folder: Path) -> Context:
    settings = load_settings(overrides=["clean.watermark.windows=0.5"])
    replay = ReplayFolder(lake.spark, str(folder / "landing"))
    return Context(settings, MAPPING, folder, lake.spark, lake, replay)


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
    arrive(lake, 3, at(3.7, key="g"))
    opened = lake.next_increment("bronze", "clean")
    assert opened is not None, "as if killed before it was cleaned"
    arrive(lake, 4, at(3.8, key="h"))
    assert settle(live) == {}
    late = {r["key"] for r in lake.read("silver").where("late").collect()}
    assert late == {"late"}
    assert lake.read("silver").count() == 9


def silver(lake: Lake, *places: float) -> None:
    rows = [("shop", math.floor(place), place) for place in places]
    frame = lake.spark.createDataFrame(rows, "source string, `window` int, at double")
    lake.append_once("silver", frame.selectExpr("*", "TIMESTAMP '2024-01-01' AS time"), **ONCE)


def test_an_event_with_an_old_date_that_decides_where_windows_begin_is_told(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silver(lake, 0.5, 7.2, 8.6)
    assert _due(context(lake, tmp_path)) == range(8)
    assert "window 0 stands alone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("places", "told"),
    [((-8.5, 0.2, 1.6), "window -9 stands alone.*clean.earliest"), ((-0.5, 1.6), "windows.start")],
)
def test_a_history_that_ends_before_the_first_window_is_refused_with_what_to_do(
    lake: Lake, tmp_path: Path, places: tuple[float, ...], told: str
) -> None:
    silver(lake, *places)
    with pytest.raises(SourceError, match=f"{told}.*another --out"):
        _due(context(lake, tmp_path))


def test_a_history_whose_closing_was_killed_ends_where_it_was_to_end(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = context(lake, tmp_path)
    arrive(lake, 0, at(1.2, key="a"), at(1.6, key="b"), at(3.2, key="c"))

    def dying(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lake, "merge_once", dying)
        with pytest.raises(KeyboardInterrupt):
            settle(live)
    assert closed_window(lake) is None
    arrive(lake, 1, at(0.9, key="older"), at(4.8, key="d"))
    done = settle(live)
    assert list(done) == [1, 2, 3]
    for name in ("vocabulary", "sequences", "histories"):
        assert lake.last(name, "features") is not None
    assert {row["window"] for row in lake.read("sequences").collect()} == {1, 3}


def test_a_reingest_first_cleans_what_a_killed_landing_left(lake: Lake, tmp_path: Path) -> None:
    arrive(lake, 0, at(0.2, key="a"), at(0.3, key="b", rejected="gift", payload=GIFT))
    live = context(lake, tmp_path)
    killed_before_silver(lake, live.settings.clean)
    corrected = Mapping.model_validate({**MAPPING.model_dump(), "windows": WINDOWS})
    counts = bring_back(live, Selection("gift"), corrected)
    assert counts["selected"] == 1
    assert lake.ledger.position("bronze", "clean")[0] is None
    assert "a" in {row["key"] for row in lake.read("silver").collect()}
