"""Whatever was acknowledged is there, once, however the collector ended."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.serve.service import Connection, Service, ask, service

LOST = (OSError, EOFError)
SETS = (
    "--set=collector.rate=1000000",
    "--set=collector.burst=1000000",
    "--set=collector.rotate_bytes=20000",
)


async def bombard(running: Service, first: int, seconds: float) -> tuple[set[str], int]:
    """Ids acknowledged until SIGKILL after `seconds`, and how many ids were sent at all."""
    acknowledged: set[str] = set()
    sent = first

    async def work() -> None:
        nonlocal sent
        with suppress(*LOST):
            async with Connection(running.port) as connection:
                while True:
                    names = [f"e{sent + n}" for n in range(random.choice((1, 1, 1, 40)))]
                    sent += len(names)
                    body = "\n".join(json.dumps({"event_id": name, "user": 1}) for name in names)
                    if (await connection.post(body.encode())).status == 202:
                        acknowledged.update(names)

    workers = [asyncio.create_task(work()) for _ in range(16)]
    await asyncio.sleep(seconds)
    running.process.send_signal(signal.SIGKILL)
    await asyncio.gather(*workers)
    return acknowledged, sent


def test_killed_ten_times_no_acknowledged_event_is_lost_or_double(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    sent, dice = 0, random.Random(7)
    for _ in range(10):
        with service(tmp_path, *SETS) as running:
            more, sent = asyncio.run(bombard(running, sent, dice.uniform(0.02, 0.4)))
            acknowledged |= more
    with service(tmp_path, *SETS) as running:
        running.end(signal.SIGTERM)
    found = [str(event["event_id"]) for event in running.events()]
    assert len(acknowledged) > 100
    assert len(found) == len(set(found)) <= sent
    assert acknowledged <= set(found)
    assert running.parts() == []


def test_a_torn_last_line_was_never_acknowledged_and_goes(tmp_path: Path) -> None:
    folder = tmp_path / "collector" / "events"
    folder.mkdir(parents=True)
    (folder / ".events-a.jsonl.part").write_text('{"event_id": "whole"}\n{"event_id": "to')
    (folder / ".events-b.jsonl.part").write_text('{"event_id": "to')
    (folder / ".events-c.jsonl.part").write_text("")
    with service(tmp_path) as running:
        assert running.events() == [{"event_id": "whole"}]
        assert running.parts() == []
        assert "16 bytes torn off" in running.end(signal.SIGTERM)


def test_the_part_of_a_collector_that_lives_is_left_alone(tmp_path: Path) -> None:
    with service(tmp_path, "--set=collector.rotate_seconds=3600") as first:
        assert ask(first, '{"event_id": "first"}').status == 202
        with service(tmp_path) as second:
            assert len(first.parts()) == 1
            assert ask(second, '{"event_id": "second"}').status == 202
            second.end(signal.SIGTERM)
        assert ask(first, '{"event_id": "third"}').status == 202
        first.end(signal.SIGTERM)
        names = [event["event_id"] for event in first.events()]
        assert sorted(map(str, names)) == ["first", "second", "third"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_under_load_loses_nothing(tmp_path: Path, how: signal.Signals) -> None:
    async def stopped(running: Service) -> set[str]:
        acknowledged: set[str] = set()

        async def work(worker: int) -> None:
            with suppress(*LOST):
                async with Connection(running.port) as connection:
                    for number in range(100_000):
                        name = f"w{worker}-{number}"
                        answer = await connection.post(json.dumps({"event_id": name}).encode())
                        if answer.status == 202:
                            acknowledged.add(name)

        workers = [asyncio.create_task(work(worker)) for worker in range(8)]
        await asyncio.sleep(0.3)
        running.process.send_signal(how)
        await asyncio.gather(*workers)
        return acknowledged

    with service(tmp_path, *SETS) as running:
        acknowledged = asyncio.run(stopped(running))
        running.process.wait(30)
        found = [str(event["event_id"]) for event in running.events()]
        assert len(acknowledged) > 10
        assert acknowledged <= set(found)
        assert len(found) == len(set(found))
        assert running.parts() == []
