from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from recsys_lib.adapters.lake import Lake
from recsys_lib.ingest import familiar
from recsys_lib.ingest import landing as room
from recsys_lib.ingest.fields import Field
from tests.ingest.test_landing import event, keys, land, landing

FIELDS = [Field("shop", "who", "text", 0), Field("shop", "n", "number", 1),
          Field("shop", "ok", "boolean", 2)]  # fmt: skip
SHAPE = re.compile(familiar.shape(FIELDS))
TOKENS = ["{", "}", ",", ":", " ", "null", "true", "1", "01", "-2.5", "1e5", "NaN", "[]", "\\", '"',
          '"who"', '"n"', '"ok"', '"x"', '"who":"u"', '"n":1', '"ok":true']  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        '{"who":"u","n":1.50,"ok":false}',
        ' { "who" : "u" , "ok" : null } ',
        '{"n":-0.5}',
        "{}",
    ],
)
def test_flat_records_of_known_fields_are_familiar(text: str) -> None:
    assert SHAPE.search(text)


@given(st.lists(st.sampled_from(TOKENS), max_size=12).map("".join))
def test_what_is_familiar_is_an_object_of_known_fields_each_once(text: str) -> None:
    if not SHAPE.search(text):
        return
    pairs = json.loads(text, object_pairs_hook=list)
    assert len({name for name, _ in pairs}) == len(pairs)
    kinds = {"who": str, "n": int | float, "ok": bool}
    assert all(value is None or isinstance(value, kinds[name]) for name, value in pairs)


ODD: list[Any] = [
    event(who="plain", n=2),
    event(n=None),
    event(who='a "quoted" \\ name'),
    {"n": 1, **event(who="in another order")},
    event(n=1e300),
    event(who="ü\u2028\U0001f600"),
    '{"who": "u", "who": "v"}',
    '{"who": "u", "what": "i"',
    '{"who": "u"} {"who": "v"}',
    "",
    None,
    "[]",
    "{}",
    '{"who": "u"}\u2028',
    '{"a":' * 1500 + "1" + "}" * 1500,
]
NEWS: list[Any] = [
    event(coupon="x"),
    event(who=5),
    event(n="1"),
    event(n={"deep": 1}),
]


@pytest.mark.parametrize("news", [[], *([one] for one in NEWS)])
def test_a_batch_lands_the_same_with_and_without_a_survey(
    lake: Lake, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, news: list[Any]
) -> None:
    quick, careful = lake, Lake(spark, f"{lake.root}-careful")
    surveys: list[str] = []
    whole = room.surveyed

    def counted(raw: Any) -> Any:
        surveys.append("one")
        return whole(raw)

    monkeypatch.setattr(room, "surveyed", counted)
    batches = ([event(n=n) for n in range(3)], [event(n=n) for n in range(20)] + ODD + news)
    for to in (quick, careful):
        if to is careful:
            monkeypatch.setattr(familiar, "fits", lambda _: False)
        for number, batch in enumerate(batches):
            assert land(spark, landing(to, value="n"), number, *batch) == len(batch)
    assert len(surveys) == 2 + 1 + bool(news)
    ours, theirs = (
        [
            {**row, "arrived": None}
            for row in sorted(to.small("bronze"), key=lambda r: (r["batch"], r["offset"]))
        ]
        for to in (quick, careful)
    )
    assert ours == theirs
    assert len(keys(quick)) == sum(map(len, batches))
