"""What a fix makes good lands once; the rest stays; killed anywhere it is the same."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.sources.payloads import read_payloads
from recsys_lib.clean import reingest as bringing
from recsys_lib.clean.recipe import clean_increment
from recsys_lib.clean.reingest import Selection, reingest
from recsys_lib.clean.report import as_table, by_rule
from recsys_lib.clean.split import repeated_keys
from recsys_lib.errors import SourceError
from recsys_lib.ingest.axis import find_axis
from recsys_lib.ingest.bronze import check_mapping, parse
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings

BROKEN: dict[str, Any] = {
    "user": "u",
    "item": "i",
    "time": {"timestamp": "t"},
    "windows": {"history": 1, "start": "2020-01-01T00:00:00"},
}
EURO = "coalesce(try_cast(t AS timestamp), to_timestamp(t, 'd.M.yyyy'))"
MAPPING = Mapping.model_validate(BROKEN)
FIXED = Mapping.model_validate({**BROKEN, "time": {"timestamp": EURO}})
SETTINGS = CleanSettings()
RAW = "u string, i string, t string, _corrupt_record string"
Raw = tuple[str | None, str | None, str | None, str | None]


def land(lake: Lake, number: int, *rows: Raw) -> dict[str, Any]:
    raw = lake.spark.createDataFrame(list(rows), RAW)
    parsed = parse(raw, MAPPING, find_axis(raw, MAPPING, SETTINGS.earliest))
    stamped = parsed.withColumns({"arrived": F.current_timestamp(), "batch": F.lit(number)})
    lake.append_once("bronze", stamped, app="test", version=number)
    return clean_increment(lake, number, MAPPING, SETTINGS)


def back(
    lake: Lake, reason: str, mapping: Mapping = FIXED, clean: CleanSettings = SETTINGS, **told: Any
) -> dict[str, int]:
    def parsed(payloads: DataFrame) -> DataFrame:
        raw = read_payloads(lake.spark, payloads, lake.read("bronze"))
        check_mapping(raw, mapping)
        return parse(raw, mapping, find_axis(raw, mapping, clean.earliest))

    return reingest(lake, Selection(reason, **told), parsed, mapping, clean)


def silver(lake: Lake) -> list[tuple[str, str, int]]:
    rows = lake.read("silver").select("user", "item", "window").collect()
    return sorted(tuple(row) for row in rows)


@pytest.fixture
def shop(lake: Lake) -> Lake:
    """One good row; of three with a date in another form two are the same; others are hopeless."""
    land(
        lake,
        0,
        ("a", "x", "2020-01-02", None),
        ("b", "x", "9.1.2020", None),
        ("b", "x", "9.1.2020", None),
        ("c", "y", "10.1.2020", None),
        ("d", "y", "soon", None),
        (None, "y", "11.1.2020", None),
        (None, None, None, '{"u": "e", "i": "y"}{"u": "f", "i": "y"}'),
    )
    return lake


def test_what_the_fix_makes_good_lands_once_and_the_rest_stays(shop: Lake) -> None:
    assert by_rule(shop) == {"bad_time": (4, 0), "missing_user": (1, 0), "unreadable": (1, 0)}
    counts = back(shop, "bad_time")
    assert counts == {"selected": 4, "landed": 2, "settled": 3, "left": 1}
    assert silver(shop) == [("a", "x", 0), ("b", "x", 1), ("c", "y", 1)]
    assert by_rule(shop)["bad_time"] == (1, 3)
    assert back(shop, "bad_time") == {"selected": 1, "landed": 0, "settled": 0, "left": 1}
    assert len(silver(shop)) == 3
    # The same record comes once more, now readable: it has the key of what was re-ingested.
    raw = shop.spark.createDataFrame([("c", "y", "10.1.2020", None)], RAW)
    parsed = parse(raw, FIXED, find_axis(raw, FIXED, SETTINGS.earliest))
    stamped = parsed.withColumns({"arrived": F.current_timestamp(), "batch": F.lit(1)})
    shop.append_once("bronze", stamped, app="test", version=1)
    assert clean_increment(shop, 1, FIXED, SETTINGS)["by_rule"] == {"duplicate": 1}


@pytest.mark.parametrize(("most", "sent"), [(3, True), (2, False)])
def test_keys_are_sent_whole_to_every_executor_only_where_they_are_few(
    shop: Lake, monkeypatch: pytest.MonkeyPatch, most: int, sent: bool
) -> None:
    asked: list[bool] = []

    def spied(*rows: Any, broadcast: bool) -> DataFrame:
        asked.append(broadcast)
        return repeated_keys(*rows, broadcast=broadcast)

    monkeypatch.setattr(bringing, "IN_MEMORY", most)
    monkeypatch.setattr(bringing, "repeated_keys", spied)
    assert back(shop, "bad_time")["landed"] == 2
    assert asked == [sent]


def test_what_is_not_json_is_still_unreadable_and_other_rules_still_hold(shop: Lake) -> None:
    assert back(shop, "unreadable") == {"selected": 1, "landed": 0, "settled": 0, "left": 1}
    assert back(shop, "missing_user")["left"] == 1
    assert len(silver(shop)) == 1


def test_a_window_or_a_time_of_arrival_limits_what_is_looked_at(shop: Lake) -> None:
    assert back(shop, "bad_time", since="2199-01-01")["selected"] == 0
    assert back(shop, "bad_time", window=3)["selected"] == 0
    assert len(silver(shop)) == 1


def test_a_rule_without_rows_names_those_that_have_some(shop: Lake) -> None:
    with pytest.raises(SourceError, match=r"'bad_tme' .* has bad_time, missing_user, unreadable"):
        back(shop, "bad_tme")


@pytest.mark.parametrize("victim", ["silver", "quarantine", "ledger"])
def test_killed_anywhere_the_same_call_ends_with_the_same_tables(shop: Lake, victim: str) -> None:
    class KilledError(Exception):
        pass

    append, merge, note = shop.append_once, shop.merge_once, shop.ledger.write

    def dying(write: Any) -> Any:
        def once(table: Any, *told: Any, **more: Any) -> Any:
            if victim == table or (victim == "ledger" and "read" in told):
                raise KilledError
            return write(table, *told, **more)

        return once

    shop.append_once, shop.merge_once = dying(append), dying(merge)  # type: ignore[method-assign]
    shop.ledger.write = dying(note)  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        back(shop, "bad_time")
    shop.append_once, shop.merge_once = append, merge  # type: ignore[method-assign]
    shop.ledger.write = note  # type: ignore[method-assign]
    # Rows that come in between are left for the next time.
    land(shop, 1, ("e", "z", "12.1.2020", None))
    assert back(shop, "bad_time") == {"selected": 4, "landed": 2, "settled": 3, "left": 1}
    assert silver(shop) == [("a", "x", 0), ("b", "x", 1), ("c", "y", 1)]
    assert by_rule(shop)["bad_time"] == (2, 3)
    assert back(shop, "bad_time")["landed"] == 1


def test_the_table_of_reasons_is_short(shop: Lake) -> None:
    back(shop, "bad_time")
    assert as_table(by_rule(shop)).splitlines() == [
        "quarantine    rows  re-ingested",
        "bad_time         1            3",
        "missing_user     1            0",
        "unreadable       1            0",
        "in all           3            3",
    ]
    assert as_table({}) == "quarantine: empty"
    assert as_table({"bot": (1200, 0)}).splitlines()[1] == "bot         1,200"
