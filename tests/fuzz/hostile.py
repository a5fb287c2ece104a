"""Lines that nobody should send, as bytes without line ends, and good ones to lose among them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

COLUMNS = ("id", "user", "item", "at", "price")
LARGE, DEEP = 10 * 1024 * 1024, 100_000
TEXTS = (
    "", " ", "\t", "null", "NULL", "NaN", "None", "true", "-0", "1e999", "-1e999", "Infinity",
    "0x10", "1_000", "9" * 400, "0." + "0" * 400 + "1", "١٢٣", "１２３", "'; DROP TABLE silver; --",
    '" OR 1=1 --', "../../../etc/passwd", "..\\..\\x", "/dev/null", "C:\\NUL", "%00%0a", "${jndi:x}",
    "\x00", "a\x00b", "\x1b[2J", "\x7f", "\u200b", "\u202egnp.exe", "\ufeff", "\ufffe", "\u0301" * 50,
    "é", "e\u0301", "ﬁ", "İ", "ß", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0010ffff",
    "=cmd|'/C calc'!A0", "<script>", "`id`", "a.b", "a`b", "\\", '\\"', '"', '""', '"""', "'", ",", ";",
    "|", "#", "//", "\u2028", "\x85", "\x0b", "\x0c",
)  # fmt: skip
TIMES = (
    "0000-01-01 00:00:00", "0001-01-01 00:00:00", "9999-12-31 23:59:59", "10000-01-01 00:00:00",
    "294247-01-10 04:00:54.775807", "-290308-12-21", "2026-02-30 10:00:00", "2026-13-01", "24:00:00",
    "2026-01-05T25:61:61Z", "2026-01-05 10:00:00+99:00", "2026-01-05 10:00:00 Mars/Base", "now",
    "99999999999999999999", "-1", "1e300", "2026-W01-1", "1582-10-10 00:00:00", "+999999999-12-31",
)  # fmt: skip
NAMES = ("User", "USER", "_corrupt_record", "", "a.b", "a`b", "`", "a b", "\x00", "é", "ID", "window",
         "key", "rule", "*", "user.id", "\u202e", "x" * 5000)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """`good` is the event that must come out unchanged; None where anything but a crash will do."""

    raw: bytes
    good: dict[str, str] | None = None


def good_event(dice: Random, number: int) -> dict[str, str]:
    at = f"2026-01-{dice.randrange(6, 25):02d} 10:{dice.randrange(60):02d}:00"
    user, item = f"u{dice.randrange(99)}", dice.choice(("i1", "ärger", "日本", "a b", "o'neil"))
    return {
        "id": f"good-{number}", "user": user, "item": item, "at": at, "price": f"{number}.5",
    }  # fmt: skip


def some_lines(dice: Random, count: int, csv_lines: bool) -> list[Line]:
    """`count` lines, a third of them good, and now and then a giant."""
    write = csv_line if csv_lines else json_line
    found = []
    for number in range(count):
        event = good_event(dice, number)
        if dice.random() < 0.33:
            found.append(Line(write(event), event))
        else:
            raw = dice.choice(WAYS)(dice, {**event, "id": f"bad-{number}"}, write)
            found.append(Line(raw.replace(b"\n", b" ").replace(b"\r", b" ")))
    return found


def json_line(event: dict[str, object] | dict[str, str]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")


def csv_line(event: dict[str, object] | dict[str, str]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([event.get(name, "") for name in COLUMNS])
    return out.getvalue().encode("utf-8", "surrogatepass")


Write = Callable[[dict[str, object]], bytes]
Way = Callable[[Random, dict[str, str], Write], bytes]


def odd_value(dice: Random, event: dict[str, str], write: Write) -> bytes:
    return write({**event, dice.choice(COLUMNS): dice.choice(TEXTS)})


def odd_time(dice: Random, event: dict[str, str], write: Write) -> bytes:
    return write({**event, "at": dice.choice(TIMES)})


def odd_type(dice: Random, event: dict[str, str], write: Write) -> bytes:
    values: list[object] = [
        None, True, [], {}, [1, [2]], {"a": {"b": 1}}, 10**dice.randrange(1, 900), -1, 0.1,
        float("nan"), float("inf"), [{"user": 1}], {"User": 1, "user": 2},
    ]  # fmt: skip
    return write({**event, dice.choice(COLUMNS): dice.choice(values)})


def odd_name(dice: Random, event: dict[str, str], write: Write) -> bytes:
    return write({**event, dice.choice(NAMES): dice.choice(TEXTS)})


def surrogates(dice: Random, event: dict[str, str], write: Write) -> bytes:
    half = chr(dice.randrange(0xD800, 0xE000))
    if dice.random() < 0.5:
        return json.dumps({**event, "user": half}).encode()
    return write({**event, "user": half})


def twice(dice: Random, event: dict[str, str], write: Write) -> bytes:
    text = write(dict(event))
    return text[:-1] + b', "user": "other", "user": 3}' if text.startswith(b"{") else text * 2


def cut(dice: Random, event: dict[str, str], write: Write) -> bytes:
    text = write(dict(event))
    return text[: dice.randrange(len(text))]


def stirred(dice: Random, event: dict[str, str], write: Write) -> bytes:
    text = bytearray(write(dict(event)))
    for _ in range(dice.randrange(1, 6)):
        text[dice.randrange(len(text))] = dice.randrange(256)
    return bytes(text)


def noise(dice: Random, event: dict[str, str], write: Write) -> bytes:
    return dice.randbytes(dice.randrange(200))


def encoded(dice: Random, event: dict[str, str], write: Write) -> bytes:
    text = write({**event, "user": "é"}).decode()
    return text.encode(
        dice.choice(("latin-1", "utf-16", "utf-16-be", "utf-32", "utf-7")), "replace"
    )


def marked(dice: Random, event: dict[str, str], write: Write) -> bytes:
    return b"\xef\xbb\xbf" + write(dict(event))


def not_an_event(dice: Random, event: dict[str, str], write: Write) -> bytes:
    texts = (
        b"[]",
        b"[{}]",
        b"{}",
        b"3",
        b'"x"',
        b"null",
        b"true",
        b"NaN",
        b",,,,",
        b",,,,,,,,",
        b"{",
    )
    return dice.choice(texts)


def nothing(dice: Random, event: dict[str, str], write: Write) -> bytes:
    return dice.choice((b"", b" ", b"\t", b"\x00", b"\x1f", b"\xc2\xa0", b"\xe3\x80\x80", b"\x0c"))


def giant(dice: Random, event: dict[str, str], write: Write) -> bytes:
    """Rare: ten megabytes, a hundred thousand levels, or as many columns."""
    if dice.random() > 0.005:
        return odd_value(dice, event, write)
    return dice.choice((
        lambda: write({**event, "user": "x" * LARGE}),
        lambda: write({**event, "price": "9" * 100_000}),
        lambda: b"[" * DEEP,
        lambda: b'{"user":' * DEEP + b"1" + b"}" * DEEP,
        lambda: b'{"user":' + b"[" * DEEP + b"]" * DEEP + b"}",
        lambda: b"," * DEEP,
        lambda: b'"' * DEEP,
        lambda: b'{"id": "n", "user": ' + b"9" * 10_000 + b"}",
    ))()  # fmt: skip


WAYS: tuple[Way, ...] = (
    odd_value, odd_value, odd_time, odd_type, odd_name, surrogates, twice, cut, stirred, noise,
    encoded, marked, not_an_event, nothing, giant,
)  # fmt: skip
