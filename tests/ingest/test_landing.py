from __future__ import annotations

import json
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_lib.adapters.lake import Lake
from recsys_lib.clean.recipe import clean_increment
from recsys_lib.errors import SettingsError
from recsys_lib.ingest.landing import Landing
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings, IngestSettings
from recsys_lib.types import RAW_RECORD

TOLD: dict[str, Any] = {
    "name": "shop",
    "user": "who",
    "item": "what",
    "time": {"timestamp": "at"},
    "windows": {"history": 1, "start": "2024-01-01T00:00:00"},
}


def landing(lake: Lake, source: str = "kafka", **changes: Any) -> Landing:
    mapping = Mapping.model_validate({**TOLD, **changes})
    return Landing(lake, source, mapping, IngestSettings(max_fields=6), CleanSettings())


def event(**changes: Any) -> dict[str, Any]:
    return {"who": "u", "what": "i", "at": "2024-01-02 03:00:00", **changes}


def land(spark: SparkSession, to: Landing, number: int, *records: Any, typed: bool = True) -> int:
    texts = [r if isinstance(r, str) or r is None else json.dumps(r) for r in records]
    rows = [(text, "topic", 0, n, typed, None, None) for n, text in enumerate(texts)]
    return to.land(spark.createDataFrame(rows, RAW_RECORD), f"test:{to.source}", number)


def cleaned(lake: Lake, **changes: Any) -> dict[str, Any]:
    mapping = Mapping.model_validate({**TOLD, **changes})
    return clean_increment(lake, None, mapping, CleanSettings())


def keys(lake: Lake) -> list[str]:
    return [row["key"] for row in lake.small("bronze")]


def test_a_batch_lands_once_however_often_it_comes(lake: Lake, spark: SparkSession) -> None:
    assert land(spark, landing(lake), 0, event(), event(who="v")) == 2
    assert land(spark, landing(lake), 0, event(), event(who="v")) == 0
    assert len(keys(lake)) == 2


def test_the_same_content_has_the_same_key_in_any_order_from_any_source(
    lake: Lake, spark: SparkSession
) -> None:
    inner = {"a": 1, "b": [1, 2]}
    first = event(n=inner, price=1.5)
    turned = dict(reversed(event(n=dict(reversed(inner.items())), price=1.5, gone=None).items()))
    land(spark, landing(lake), 0, first)
    land(spark, landing(lake, "files"), 0, turned)
    land(spark, landing(lake, "files"), 1, json.dumps(first, indent=1).replace("1.5", "1.50"))
    assert len(keys(lake)) == 3
    assert len(set(keys(lake))) == 1
    assert cleaned(lake)["by_rule"] == {"duplicate": 2}


def test_the_id_of_the_source_wins_over_its_content(lake: Lake, spark: SparkSession) -> None:
    land(spark, landing(lake, id="id"), 0, event(id=7), event(id="7", who="v"), event(id=8))
    one, same, other = keys(lake)
    assert one == same != other


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "",
        "no json",
        '{"who": "u"',
        "[1, 2]",
        "3",
        '"text"',
        "null",
        '{"who": NaN}',
        '{"who": 1, "who": 2}',
        '{"who": "u"} {"who": "v"}',
        '{"who": "u"}, {"who": "v"}',
        '{"who": "u"} and more',
        '{"a":' * 2000 + "1" + "}" * 2000,
    ],
)
def test_what_is_not_one_object_is_kept_and_turned_away(
    lake: Lake, spark: SparkSession, payload: str | None
) -> None:
    land(spark, landing(lake), 0, payload, event())
    counts = cleaned(lake)
    assert (counts["silver"], counts["by_rule"]) == (1, {"unreadable": 1})
    assert [row["payload"] for row in lake.small("quarantine")] == [payload or ""]


def test_a_new_field_becomes_a_column_of_bronze_and_silver(lake: Lake, spark: SparkSession) -> None:
    land(spark, landing(lake), 0, event())
    cleaned(lake)
    land(spark, landing(lake), 1, event(who="v", coupon="x", amount=2, gift=True))
    cleaned(lake)
    for table in ("bronze", "silver"):
        found = {row["user"]: row["fields"] for row in lake.small(table)}
        assert found["v"] == {"coupon": "x", "amount": 2.0, "gift": True}
        assert found["u"] is None


def test_a_field_that_is_dropped_becomes_null(lake: Lake, spark: SparkSession) -> None:
    to = landing(lake, value="price")
    land(spark, to, 0, event(coupon="x", price=2))
    land(spark, to, 1, event(who="v"))
    assert cleaned(lake, value="price")["by_rule"] == {}
    found = {row["user"]: (row["value"], row["fields"]) for row in lake.small("silver")}
    assert found == {"u": (2.0, {"coupon": "x"}), "v": (None, {"coupon": None})}


def test_rows_of_a_field_that_changed_its_type_go_to_quarantine(
    lake: Lake, spark: SparkSession
) -> None:
    land(spark, landing(lake), 0, event(n=1), event(who="v", n=2.5), event(who="w", n=None))
    land(spark, landing(lake), 1, event(who="x", n="3"), event(who="y", n={}), event(who="z", n=4))
    counts = cleaned(lake)
    assert (counts["silver"], counts["by_rule"]) == (4, {"changed_type": 2})
    reasons = {row["reason"] for row in lake.small("quarantine")}
    assert reasons == {"n: number before, text now", "n: number before, object now"}


def test_of_a_new_field_the_type_that_most_records_have_counts(
    lake: Lake, spark: SparkSession
) -> None:
    land(spark, landing(lake), 0, *(event(who=f"u{n}", n=v) for n, v in enumerate(["a", 1, "b"])))
    assert cleaned(lake)["by_rule"] == {"changed_type": 1}


def test_text_of_a_format_without_types_is_no_change(lake: Lake, spark: SparkSession) -> None:
    to = landing(lake)
    land(spark, to, 0, event(n=1))
    land(spark, to, 1, event(who="v", n="2.5", m="7"), event(who="w", n="dear"), typed=False)
    land(spark, to, 2, event(who="x", n=3, m=7))
    assert cleaned(lake)["by_rule"] == {"changed_type": 1}
    assert {row["user"]: row["fields"] for row in lake.small("silver")} == {
        "u": {"n": 1.0, "m": None},
        "v": {"n": 2.5, "m": "7"},
        "x": {"n": 3.0, "m": "7"},
    }


def test_fields_are_learned_once_though_the_batch_is_killed_before_it_lands(
    lake: Lake, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = lake.append_once

    def killed(table: str, *args: Any, **options: Any) -> bool:
        if table == "bronze":
            raise KeyboardInterrupt
        return whole(table, *args, **options)

    monkeypatch.setattr(lake, "append_once", killed)
    with pytest.raises(KeyboardInterrupt):
        land(spark, landing(lake), 0, event(n=1), event(n="1"), event(n=2))
    monkeypatch.undo()
    assert land(spark, landing(lake), 0, event(n=1), event(n="1"), event(n=2)) == 3
    assert sorted(row["name"] for row in lake.small("fields")) == ["at", "n", "what", "who"]


def test_strange_and_too_many_fields_stay_in_the_payload(lake: Lake, spark: SparkSession) -> None:
    strange = {"a b": 1, "x.y": 2, "`": 3, "": 4, "OBJECT<": 5, "\u0000": 6, "'\"": 7}
    land(spark, landing(lake), 0, event(**strange, WHO="other", extra=1))
    land(spark, landing(lake), 1, event(**{f"f{n}": n for n in range(50)}))
    assert cleaned(lake)["silver"] == 2
    assert len(lake.small("fields")) == 6
    assert {row["user"] for row in lake.small("silver")} == {"u"}


def test_nested_and_oddly_named_fields_can_be_mapped(lake: Lake, spark: SparkSession) -> None:
    changes = {"user": "visit.by.id", "item": "the product", "value": "price * n"}
    record = {"visit": {"by": {"id": 5}}, "the product": "i", "price": 2.5, "n": 2}
    land(spark, landing(lake, **changes), 0, {**record, "at": "2024-01-02"})
    [row] = lake.small("bronze")
    assert (row["user"], row["item"], row["value"]) == ("5", "i", 5.0)


def test_without_a_start_the_axis_is_fixed_by_the_first_records(
    lake: Lake, spark: SparkSession
) -> None:
    windows = {"windows": {"history": 1, "days": 7}}
    land(spark, landing(lake, **windows), 0, "broken")
    land(spark, landing(lake, **windows), 1, event(at="2024-01-10 05:00:00"))
    land(spark, landing(lake, **windows), 2, event(at="2024-01-01"), event(at="2024-01-24"))
    assert sorted(row["window"] for row in lake.small("bronze") if row["user"]) == [-2, 0, 2]


def test_a_mapping_for_other_records_is_told_before_anything_lands(
    lake: Lake, spark: SparkSession
) -> None:
    with pytest.raises(SettingsError) as caught:
        land(spark, landing(lake, user="whom", item="sku"), 0, *[event()] * 100)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["user", "item"]
    assert "did you mean 'who'?" in caught.value.faults[0]
    assert not lake.exists("bronze")


def test_sql_that_is_none_is_told_before_anything_is_read(lake: Lake) -> None:
    with pytest.raises(SettingsError, match=r"value: .* is not valid SQL"):
        landing(lake, value="price * (")
