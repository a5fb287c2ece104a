"""Laws of the collector's parser, for any input at all."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lib.serve.events import Event, Refused, refusal, split_body, stamp
from recsys_lib.settings import Kind

NOW = "2026-01-05T10:00:00.000+00:00"
# Doubles that JSON has words for; whole numbers of any length.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text("abc\n", max_size=3), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
NAMES = st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x2FF), max_size=8)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=6)
ODD = (
    b"", b"\xef\xbb\xbf", b"null", b"NaN", b'{"user": NaN}', b'{"user": 1e999}', b"-Infinity",
    b"[" * 100_000, b'{"a":' * 100_000, b'{"user": "\xed\xa0\x80"}', b'{"user": "\\ud800"}',
    b'{"user": "a\x00b"}', '{"user": "é"}'.encode("utf-16"), '{"user": "é"}'.encode("latin-1"),
    b'{"user": ' + b"9" * 100_000 + b"}", b'{"user": 1} {"user": 2}', b'{"user": 1,}', b"\n\r\n",
    b'{"user": "\xe2\x80\xae"}', b'{"user": "' + b"x" * 10_485_760 + b'"}',
)  # fmt: skip


def pieces(body: bytes, kind: str = "") -> list[Event | Refused]:
    raws = split_body(body, kind)
    if isinstance(raws, Refused):
        return [raws]
    return [stamp(raw, {}, NOW, f"spare-{n}") for n, raw in enumerate(raws)]


def check(body: bytes, kind: str) -> None:
    """An event is one line of JSON with an id and a time; what is none can be had again."""
    for piece in pieces(body, kind):
        if isinstance(piece, Event):
            assert b"\n" not in piece.line
            assert b"\r" not in piece.line
            line = msgspec.json.decode(piece.line)
            assert str(line["event_id"]) == piece.id
            assert line["received_at"] == NOW
        else:
            kept = json.loads(refusal(piece, NOW, "10.0.0.1"))
            raw = kept.get("raw", "").encode() or base64.b64decode(kept.get("raw_base64", ""))
            assert raw == piece.raw
            assert piece.raw in body
            assert kept["reason"]


@given(st.binary(max_size=300), st.sampled_from(["", "application/x-ndjson", "text/plain"]))
def test_any_bytes_are_events_or_refused_whole(body: bytes, kind: str) -> None:
    check(body, kind)


@given(st.lists(OBJECTS | VALUES, max_size=4), st.randoms(use_true_random=False))
def test_json_that_was_broken_anywhere_is_events_or_refused_whole(
    values: list[object], dice: object
) -> None:
    whole = json.dumps(values, ensure_ascii=False).encode()
    at = dice.randrange(len(whole) + 1)  # type: ignore[attr-defined]
    for broken in (whole[:at], whole[:at] + b'"' + whole[at:], whole[:at] + b"\xff" + whole[at:]):
        check(broken, "application/json")


@pytest.mark.parametrize("body", ODD, ids=lambda body: repr(body[:12]))
@pytest.mark.parametrize("kind", ["", "application/x-ndjson"])
def test_known_oddities_are_events_or_refused_whole(body: bytes, kind: str) -> None:
    check(body, kind)


@given(OBJECTS, st.sampled_from([None, 1]))
def test_an_object_lands_with_its_own_values(value: dict[str, object], indent: int | None) -> None:
    (piece,) = pieces(json.dumps(value, ensure_ascii=False, indent=indent).encode())
    names = {name.lower() for name in value}
    if isinstance(piece, Refused):
        assert "differ" in piece.reason or "event_id" in piece.reason
        assert len(names) < len(value) or "event_id" in names
        return
    line = json.loads(piece.line)
    assert {k: v for k, v in line.items() if k not in ("event_id", "received_at")} == value


@given(st.lists(OBJECTS, min_size=1, max_size=5))
def test_an_array_and_its_lines_are_the_same_events(values: list[dict[str, object]]) -> None:
    texts = [json.dumps(value, ensure_ascii=False) for value in values]
    array = pieces(f"[{','.join(texts)}]".encode())
    assert array == pieces("\n".join(texts).encode(), "application/x-ndjson")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("id", ["u1", 7, 10**30, "'; DROP TABLE x --", "../../etc", "x" * 256],
         ["", "  ", 1.5, True, None, "x" * 257, 10**256]),
        ("text", ["x"], [1, "", None, [], {}]),
        ("number", [1, 1.5, -0.0], ["1", True, None]),
        ("integer", [1, 10**30], [1.5, "1", False]),
        ("boolean", [True, False], [0, "true", None]),
        ("time", ["2026-01-05", "9999-12-31T23:59:59Z", " 2026-01-05 10:15 "],
         ["0000-01-01", "10000-01-01", "yesterday", "", True, None, 1e9, 0, "20260105", "12:30"]),
        ("any", [0, "", [], False], [None]),
    ],
)  # fmt: skip
def test_a_wanted_field_is_of_its_kind(kind: Kind, good: list[object], bad: list[object]) -> None:
    def fits(value: object) -> bool:
        text = json.dumps({"field": value}).encode()
        return isinstance(stamp(text, {"field": kind}, NOW, "x"), Event)

    assert [value for value in good if not fits(value)] == []
    assert [value for value in bad if fits(value)] == []
    assert isinstance(stamp(b"{}", {"field": kind}, NOW, "x"), Refused)


def test_all_faults_of_an_event_are_told_at_once() -> None:
    refused = stamp(b'{"user": "", "event_id": []}', {"user": "id", "price": "number"}, NOW, "x")
    assert isinstance(refused, Refused)
    assert [part.split("'")[1] for part in refused.reason.split("; ")] == [
        "user",
        "price",
        "event_id",
    ]


def test_of_a_field_that_is_given_twice_the_last_one_counts() -> None:
    event = stamp(b'{"user": 1, "user": 2}', {}, NOW, "x")
    assert isinstance(event, Event)
    assert event.line.count(b'"user"') == 1
    assert json.loads(event.line)["user"] == 2
