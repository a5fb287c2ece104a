"""Events a second into the collector, one event a request, and how long each waited.

  make bench-collector [ARGS="--rate 1000 --seconds 30"]

The collector is held on one core. Requests start at their appointed times whether or not earlier
ones were answered, and a wait counts from then: a stall shows in all that came during it. Then the
same without a schedule, one after the other on every connection, for the most that goes through.
Every acknowledged event is looked up in the folder. Writes build/benchmarks/collector.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from tests.serve.service import ROOT, Connection, Service

TARGET_RATE, TARGET_P99 = 1000, 50.0
CONNECTIONS = 64
OPEN = ("--set=collector.rate=1000000", "--set=collector.burst=1000000")


def event(number: int) -> bytes:
    fields = {"user": f"u{number % 5000}", "item": f"i{number % 900}", "type": "view"}
    more = {"time": "2026-01-05T10:00:00.123Z", "price": 9.5, "quantity": 1, "page": "/shop/a/b"}
    return json.dumps({"event_id": f"e{number}", **fields, **more}).encode()


async def appointed(port: int, rate: float, seconds: float, first: int) -> list[float]:
    """Milliseconds that each of rate * seconds events waited for its 202."""
    waits: list[float] = []
    numbers = iter(range(int(rate * seconds)))
    start = time.perf_counter() + 0.2

    async def work() -> None:
        async with Connection(port) as connection:
            for number in numbers:
                due = start + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                answer = await connection.post(event(first + number))
                assert answer.status == 202, answer
                waits.append((time.perf_counter() - due) * 1000)

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return waits


async def flat_out(port: int, seconds: float, first: int) -> int:
    """How many events were acknowledged one after the other on every connection."""
    sent, end = 0, time.perf_counter() + seconds

    async def work() -> None:
        nonlocal sent
        async with Connection(port) as connection:
            while time.perf_counter() < end:
                number, sent = first + sent, sent + 1
                assert (await connection.post(event(number))).status == 202

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return sent


def bare_disk(folder: Path, rate: float, seconds: float) -> float:
    """p99 in milliseconds of one fdatasync at a time: what the disk itself costs just now."""
    waits = []
    with TemporaryFile(dir=folder) as file:
        for _ in range(int(rate * seconds)):
            os.write(file.fileno(), b"x" * 200)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            waits.append((time.perf_counter() - began) * 1000)
            time.sleep(1 / rate)
    return sorted(waits)[int(len(waits) * 0.99)]


def measure(rate: float, seconds: float, cores: list[int]) -> dict[str, Any]:
    folder = ROOT / "build" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    disk = bare_disk(folder, 300, seconds / 3)
    with TemporaryDirectory(dir=folder) as out:
        running = Service(Path(out), *OPEN, cores={cores[0]})
        try:
            asyncio.run(appointed(running.port, 200, 2, 10**9))  # the first ones pay for imports
            began = time.perf_counter()
            waits = sorted(asyncio.run(appointed(running.port, rate, seconds, 0)))
            took = time.perf_counter() - began - 0.2
            most = asyncio.run(flat_out(running.port, seconds / 3, len(waits)))
        finally:
            running.end(signal.SIGTERM)
        found = [line["event_id"] for line in running.events()]
    wanted = {f"e{number}" for number in range(len(waits) + most)}
    landed = [name for name in found if name in wanted]
    return {
        "events": len(waits),
        "rate": round(len(waits) / took, 1),
        "p50_ms": round(waits[len(waits) // 2], 2),
        "p99_ms": round(waits[int(len(waits) * 0.99)], 2),
        "max_ms": round(waits[-1], 2),
        "bare_disk_p99_ms": round(disk, 2),
        "flat_out_rate": round(most / (seconds / 3), 1),
        "acknowledged": len(wanted),
        "lost": len(wanted) - len(set(landed)),
        "double": len(landed) - len(set(landed)),
    }


def machine() -> dict[str, Any]:
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {"cpu": model[0] if model else platform.processor(), "cores": os.cpu_count()}


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    made.add_argument("--rate", type=float, default=TARGET_RATE, help="events a second")
    made.add_argument("--seconds", type=float, default=30)
    args = made.parse_args()
    row = measure(args.rate, args.seconds, sorted(os.sched_getaffinity(0)))
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
    result = {
        "name": "collector",
        "commit": commit,
        "machine": machine(),
        "settings": {"rate": args.rate, "seconds": args.seconds, "connections": CONNECTIONS},
        "rows": [row],
        "ratios": {
            "rate_to_target": round(row["rate"] / TARGET_RATE, 3),
            "p99_to_target": round(row["p99_ms"] / TARGET_P99, 3),
            "p99_to_bare_disk": round(row["p99_ms"] / row["bare_disk_p99_ms"], 2),
        },
    }
    file = ROOT / "build" / "benchmarks" / "collector.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"collector, one core: {row['rate']:.0f} events/s with p50 {row['p50_ms']} ms, p99 "
        f"{row['p99_ms']} ms, longest {row['max_ms']} ms (the bare disk's p99 "
        f"{row['bare_disk_p99_ms']} ms); at most {row['flat_out_rate']:.0f}/s; "
        f"of {row['acknowledged']} acknowledged {row['lost']} lost, {row['double']} double"
    )
    print(f"written to {file.relative_to(ROOT)}")
    good = row["rate"] >= 0.99 * args.rate and row["p99_ms"] < TARGET_P99
    if not (good and row["lost"] == row["double"] == 0):
        print(f"error: wanted {args.rate:g} events/s with p99 under {TARGET_P99:g} ms, none lost")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
