"""Hostile requests at a living collector: it answers each, and everything is in its folders."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.fuzz.hostile import Line, json_line, some_lines
from tests.serve.service import Connection, Service, service

SETS = (
    "--set=collector.rate=1000000",
    "--set=collector.burst=1000000",
    "--set=collector.read_seconds=1",
    "--set=collector.required={user: id}",
)
KINDS = ("application/json", "application/x-ndjson", "text/plain", "", "\x00", "a" * 5000)
ANSWERS = {202, 207, 400, 408, 413}


class Tally:
    accepted = rejected = requests = 0


def hostile_requests(folder: Path, seed: int, seconds: float) -> tuple[int, int]:
    """(requests, events) of one collector's life. Raises AssertionError, its folder kept."""
    dice, tally, good = Random(seed), Tally(), dict[str, dict[str, object]]()
    with service(folder, *SETS) as running:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            asyncio.run(_some(running, dice, tally, good))
            assert running.process.poll() is None, f"collector died: {running.end(signal.SIGKILL)}"
        said = running.end(signal.SIGTERM)
        assert running.process.returncode == 0, said
        assert "Traceback" not in said, said
        events, rejected = running.events(), running.events("rejected")
    found = {str(e["event_id"]): e for e in events if str(e["event_id"]).startswith("good-")}
    assert (len(events), len(rejected)) == (tally.accepted, tally.rejected), (
        f"{tally.accepted} accepted and {tally.rejected} rejected, but {len(events)} and "
        f"{len(rejected)} in the folders"
    )
    for name, event in good.items():
        kept = {key: value for key, value in found[name].items() if key != "received_at"}
        assert kept == event, f"sent {event}, kept {kept}"
    return tally.requests, len(events) + len(rejected)


async def _some(
    running: Service, dice: Random, tally: Tally, good: dict[str, dict[str, object]]
) -> None:
    """A hundred requests; each gets its answer before the next one goes."""
    for _ in range(100):
        tally.requests += 1
        if dice.random() < 0.05:
            await _garbage(running, dice)
            continue
        lines = [_named(line, tally.requests, n) for n, line in enumerate(_lines(dice))]
        sent = {str(line.good["event_id"]): line.good for line in lines if line.good}
        body = _joined(dice, lines)
        kind = dice.choice(KINDS)
        with suppress(OSError, EOFError):
            async with asyncio.timeout(30), Connection(running.port) as connection:
                answer = await connection.post(body, Content_Type=kind)
                if kind == "\x00":
                    continue  # not HTTP
                assert answer.status in ANSWERS, (answer, body[:500])
                if answer.status in {202, 207, 400} and b'"accepted"' in answer.body:
                    tally.accepted += answer.json["accepted"]
                    tally.rejected += len(answer.json["rejected"])
                    named = answer.json["event_ids"]
                    good.update({name: sent[name] for name in named if name in sent})


def _lines(dice: Random) -> list[Line]:
    return some_lines(dice, dice.choice((1, 1, 3, 30)), csv_lines=dice.random() < 0.1)


def _named(line: Line, request: int, number: int) -> Line:
    if line.good is None:
        return line
    event = {**line.good, "event_id": f"good-{request}-{number}"}
    return Line(json_line(event), event)


def _joined(dice: Random, lines: list[Line]) -> bytes:
    if dice.random() < 0.5:
        return b"\n".join(line.raw for line in lines)
    # Most arrays are of whole objects: one that is broken breaks the body.
    whole = lines if dice.random() < 0.2 else [line for line in lines if _is_json(line.raw)]
    return b"[" + b",".join(line.raw for line in whole) + b"]"


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


async def _garbage(running: Service, dice: Random) -> None:
    """What is not HTTP at all, or only in part."""
    parts = (
        dice.randbytes(dice.randrange(3000)),
        b"POST /events HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /events HTTP/1.1\r\nContent-Length: -5\r\nHost: x\r\n\r\n{}",
        b"POST /events HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /snippet.js/../../events.py HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /events HTTP/1.1\r\n" + b"X: y\r\n" * 5000,
    )
    with suppress(OSError, EOFError):
        async with asyncio.timeout(5), Connection(running.port) as connection:
            connection.writer.write(dice.choice(parts))
            await connection.writer.drain()
            connection.writer.write_eof()
            await connection.reader.read(1000)
