"""What lands from live sources, without the sources."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.context import Context
from jobs.ingest import done_with, ingest, landed, staged
from jobs.land import _changes, _events, check_tables, land
from jobs.prepare import settle
from jobs.reingest import bring_back
from jobs.train import _axis, nothing_prepared
from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.sources.replay import ReplayFolder
from recsys_lib.clean.reingest import Selection
from recsys_lib.errors import SettingsError
from recsys_lib.mapping import Mapping, TimeMapping
from recsys_lib.settings import load_settings
from recsys_lib.types import RAW_RECORD, Manifest

TOLD: dict[str, Any] = {
    "name": "shop",
    "user": "who",
    "item": "what",
    "time": {"timestamp": "at"},
    "windows": {"history": 1, "days": 7},
}
FROM_DATABASE = {
    "path": "jdbc",
    "id": "sku",
    "attributes": {"shelf": "shelf"},
    "price": "list_price",
    "stock": "left",
    "available": "shown",
    "promotion": "offer",
}


def live(lake: Lake, folder: Path, *sets: str, **changes: Any) -> Context:
    mapping = Mapping.model_validate({**TOLD, **changes})
    replay = ReplayFolder(lake.spark, str(folder / "landing"))
    return Context(load_settings(overrides=[*sets]), mapping, folder, lake.spark, lake, replay)


def raw(lake: Lake, *records: dict[str, Any]) -> Any:
    rows = [(json.dumps(r), "topic", 0, n, True, None, None) for n, r in enumerate(records)]
    return lake.spark.createDataFrame(rows, RAW_RECORD)


def product(shelf: str, price: float | None, at: int, **more: Any) -> dict[str, Any]:
    facts = {"sku": "a", "shelf": shelf, "list_price": price, "updated_at": f"2024-01-0{at}"}
    return {**facts, "left": 3, "shown": 1, "offer": None, **more}


def test_all_that_a_database_says_of_an_item_is_kept_with_what_it_said_before(
    lake: Lake, tmp_path: Path
) -> None:
    context = live(lake, tmp_path, items=FROM_DATABASE)
    assert context.mapping.items is not None
    merge = _changes(context, "items", context.mapping.items)
    merge(raw(lake, product("top", 1.5, 1)), "land:x", 0)
    merge(raw(lake, product("low", 2.5, 2, shown=0, offer="sale")), "land:x", 1)
    # Looked at again: a range that is planned once more says nothing new.
    merge(raw(lake, product("low", 2.5, 2, shown=0, offer="sale")), "land:x", 2)
    [row] = lake.small("items")
    found = {name: row[name] for name in ("shelf", "price", "stock", "available", "promotion")}
    assert found == {
        "shelf": "low",
        "price": 2.5,
        "stock": 3.0,
        "available": False,
        "promotion": "sale",
    }
    assert sorted(row["price"] for row in lake.small("items_history")) == [1.5, 2.5]


def test_tables_of_a_database_are_no_files_to_look_for(lake: Lake, tmp_path: Path) -> None:
    context = live(lake, tmp_path, items=FROM_DATABASE, users={**FROM_DATABASE, "id": "who"})
    assert settle(context) == {}
    assert land(context, [])["landed"] == 0


def test_what_lands_live_after_a_log_counts_windows_as_the_log_does(
    lake: Lake, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text("who,what,at\nu,i,2024-01-01\nv,i,2024-01-09\n")
    context = live(lake, tmp_path)
    staged(context, str(tmp_path / "log.csv"), None)
    staged(context, str(tmp_path / "log.csv"), None)
    sink = _events(context, "kafka")
    sink(raw(lake, {"who": "u", "what": "i", "at": "2024-01-23 10:00:00"}), "land:x", 0)
    assert [row["window"] for row in lake.small("bronze")] == [3]
    assert len(lake.small("axis")) == 1


def test_a_window_without_a_good_row_is_done_with(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("who,what,at\nu,i,2024-01-01\n,i,2024-01-02\n")
    context = live(lake, tmp_path, windows={"history": 1, "days": 1})
    staged(context, str(tmp_path / "log.csv"), None)
    ingest(context, range(1))
    assert not done_with(context, 1)
    assert ingest(context, range(1, 2))["by_rule"] == {"missing_user": 1}
    assert done_with(context, 1)
    assert not landed(context, 1)


def test_what_comes_back_is_as_it_would_have_landed(lake: Lake, tmp_path: Path) -> None:
    """Its fields too, and the key by which other sources' records of the event are told."""
    context = live(lake, tmp_path, id="eid", windows={"history": 1, "start": "2024-01-01"})
    good = {"who": "u", "what": "i", "at": "2024-01-02", "WHO": "another name", "eid": 1}
    odd = {"who": "v", "what": "i", "at": "3.1.2024", "note": "kept"}
    _events(context, "kafka")(raw(lake, good, odd), "land:x", 0)
    land(context, [])
    euro = "coalesce(try_cast(at AS timestamp), to_timestamp(at, 'd.M.yyyy'))"
    fixed = context.mapping.model_copy(update={"time": TimeMapping(timestamp=euro)})
    counts = bring_back(context, Selection("bad_time"), fixed)
    assert counts == {"selected": 1, "landed": 1, "settled": 1, "left": 0}
    [row] = [row for row in lake.small("silver") if row["user"] == "v"]
    assert row["fields"]["note"] == "kept"
    _events(replace(context, mapping=fixed), "files")(raw(lake, odd), "land:y", 0)
    assert land(replace(context, mapping=fixed), [])["quarantine.duplicate"] == 1


def test_what_is_wrong_with_any_table_of_the_shop_is_told_before_a_row_lands(
    lake: Lake, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text("who,what,at\nu,i,2024-01-01\n")
    (tmp_path / "items.csv").write_text("sku,brand\ni,b\n")
    items = {"path": str(tmp_path / "items.csv"), "id": "skku", "attributes": {"brand": "brnd"}}
    told = {"path": str(tmp_path / "items.csv"), "item": "sku", "window": "week"}
    context = live(lake, tmp_path, user="whoo", items=items, plans={**told, "features": {"n": "1"}})
    with pytest.raises(SettingsError, match=r"plans\.window") as caught:
        check_tables(context)
    assert len(caught.value.faults) == 3
    with pytest.raises(SettingsError, match=r"user: .*whoo") as caught:
        staged(context, str(tmp_path / "log.csv"), None)
    assert len(caught.value.faults) == 4
    assert lake.tables() == []


@pytest.mark.parametrize(
    ("windows", "start"),
    [({}, "2024-01-09"), ({"start": "2024-01-01"}, "2024-01-01")],
)
def test_a_model_of_live_events_knows_where_their_windows_begin(
    lake: Lake, tmp_path: Path, windows: dict[str, str], start: str
) -> None:
    context = live(lake, tmp_path, windows={"history": 1, "days": 7, **windows})
    _events(context, "kafka")(
        raw(lake, {"who": "u", "what": "i", "at": "2024-01-09 07:00"}), "x", 0
    )
    found = json.loads(_axis(context))
    assert found == {"start": f"{start}T00:00:00+00:00", "days": 7.0}


def test_plans_of_a_live_shop_are_read_when_their_file_is_new(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "plans.csv").write_text("sku,week\ni,3\n")
    told = {"path": str(tmp_path / "plans.csv"), "item": "sku", "window": "week"}
    context = live(lake, tmp_path, plans={**told, "features": {"shown": "1"}})
    settle(context)
    assert [(row["window"], row["item"]) for row in lake.small("plans")] == [(3, "i")]


def test_who_has_nothing_to_learn_is_told_the_step_of_a_log_or_of_a_live_run(
    lake: Lake, tmp_path: Path
) -> None:
    class Staged:
        def manifest(self) -> Manifest:
            return Manifest("shop", "{}", {0: 1})

    log: Any = Staged()
    context = live(lake, tmp_path)
    assert "run jobs/prepare.py" in nothing_prepared(context)
    assert "run jobs/ingest.py" in nothing_prepared(replace(context, replay=log))
