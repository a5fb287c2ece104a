"""What a client sent -> stamped event lines, or the reason why one is none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

import msgspec

from recsys_lib.mapping import Mapping
from recsys_lib.settings import Kind
from recsys_lib.types import LONGEST_ID

ID = "event_id"
RECEIVED = "received_at"
BOM = b"\xef\xbb\xbf"
LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
TIME = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?"
    r"(Z|[+-]((0\d|1[0-7]):[0-5]\d|18:00))?)?)?",
    re.ASCII,
)
PLAIN = re.compile(r"[A-Za-z_]\w*")
# Deep nesting ends in a RecursionError, a wrong byte in a UnicodeDecodeError.
BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Wanted = dict[str, Kind]


@dataclass(frozen=True)
class Event:
    """One line of JSON without its line end."""

    id: str
    line: bytes


@dataclass(frozen=True)
class Refused:
    """What came, byte for byte, and what is wrong with it."""

    raw: bytes
    reason: str


def wanted_by(mapping: Mapping) -> Wanted:
    """The fields a mapping cannot do without, where it names them plainly and not by SQL."""
    time: Kind = "number" if mapping.time.epoch is not None else "time"
    named: list[tuple[str | None, Kind]] = [
        (mapping.user, "id"),
        (mapping.item, "id"),
        (mapping.time.epoch or mapping.time.timestamp, time),
        (mapping.time.period, "integer"),
    ]
    return {text: kind for text, kind in named if text is not None and PLAIN.fullmatch(text)}


def split_body(body: bytes, content_type: str) -> list[bytes] | Refused:
    """The events of a body as they came: of a JSON array, of JSON lines, or one object."""
    text = body.removeprefix(BOM).strip()
    lines = [line for line in text.splitlines() if line.strip()]
    if content_type.partition(";")[0].strip().lower() in LINES:
        return lines
    try:
        if text.startswith(b"["):
            return [bytes(raw) for raw in msgspec.json.decode(text, type=list[msgspec.Raw])]
        msgspec.json.decode(text, type=msgspec.Raw)
    except BROKEN as error:
        if len(lines) > 1 and not text.startswith(b"[") and _parses(lines[0]):
            return lines
        return Refused(body, _not_json(error))
    return [text]


def stamp(raw: bytes, wanted: Wanted, received_at: str, spare_id: str) -> Event | Refused:
    """The event with `received_at`, and with `spare_id` where it brings no id of its own.

    Values are copied as they are written, so a long number keeps its digits; of a field that is
    given twice the last one counts.
    """
    try:
        values = msgspec.json.decode(raw)
        if not isinstance(values, dict):
            return Refused(raw, f"an event must be a JSON object, got {_kind(values)}")
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except BROKEN as error:
        return Refused(raw, _not_json(error))
    faults = _faults(values, wanted)
    if faults:
        return Refused(raw, "; ".join(faults))
    kept: dict[str, Any] = {n: v for n, v in fields.items() if n.lower() != RECEIVED}
    given = values.get(ID)
    if given is None:
        kept[ID] = spare_id
    kept[RECEIVED] = received_at
    # Outside of strings JSON's line ends are white space, inside they cannot be.
    line = msgspec.json.encode(kept).replace(b"\n", b" ").replace(b"\r", b" ")
    return Event(spare_id if given is None else str(given), line)


def refusal(refused: Refused, received_at: str, client: str) -> bytes:
    """A line for the rejected ones, from which what came can be had again, byte for byte."""
    record = {"received_at": received_at, "client": client, "reason": refused.reason}
    try:
        return msgspec.json.encode({**record, "raw": refused.raw.decode()})
    except UnicodeDecodeError:
        return msgspec.json.encode({**record, "raw_base64": refused.raw})


def _faults(values: dict[str, Any], wanted: Wanted) -> list[str]:
    faults = [
        f"{name!r} must be {WORDS[kind]}, got {_short(values.get(name))}"
        for name, kind in wanted.items()
        if not _fits(values.get(name), kind)
    ]
    given = values.get(ID)
    if given is not None and not _fits(given, "id"):
        faults = [*faults, f"{ID!r} must be {WORDS['id']}, got {_short(given)}"]
    # Column names of a table do not differ by case alone.
    if len({name.lower() for name in values}) < len(values):
        faults = [*faults, "field names must differ by more than upper and lower case"]
    return faults


WORDS: dict[Kind, str] = {
    "id": f"text or a whole number of at most {LONGEST_ID} characters",
    "text": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "time": "an ISO 8601 time in text, such as 2026-01-05T10:00:00Z",
    "any": "given",
}


def _fits(value: Any, kind: Kind) -> bool:
    if kind == "any":
        return value is not None
    if kind == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        blank = not value.strip()
        fits = {"id": len(value) <= LONGEST_ID, "text": True, "time": _is_time(value)}
        return not blank and fits.get(kind, False)
    if isinstance(value, int):
        if kind == "id":
            return abs(value) < 10 ** (LONGEST_ID - 1)
        return kind in ("number", "integer")
    return isinstance(value, float) and isfinite(value) and kind == "number"


def _is_time(text: str) -> bool:
    """As landing reads it: not all that Python does."""
    try:
        datetime.fromisoformat(text.strip())
    except ValueError:
        return False
    return TIME.fullmatch(text.strip()) is not None


def _parses(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except BROKEN:
        return False
    return True


def _not_json(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "not JSON that can be kept: nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not JSON: not UTF-8"
    return f"not JSON: {error}"


def _kind(value: Any) -> str:
    names = {list: "an array", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _short(value: Any) -> str:
    text = "nothing" if value is None else ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
