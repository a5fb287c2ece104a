"""The collector as it is run, in a process of its own, and a client on real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests"
NEXT_TOKEN = "the-token-that-follows"


class Service:
    """`python -m jobs.collect` on a free port; its folders are under `out`/collector."""

    def __init__(self, out: Path, *arguments: object, cores: set[int] | None = None) -> None:
        self.out = out
        command = [sys.executable, "-m", "jobs.collect", "--out", out, "--set=collector.port=0"]
        self.process = subprocess.Popen(
            list(map(str, [*command, *arguments])),
            cwd=ROOT,
            env={**os.environ, "ALLUVIUM_COLLECTOR_TOKENS": f"{TOKEN}, {NEXT_TOKEN}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if cores is not None:
            os.sched_setaffinity(self.process.pid, cores)
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if "listens on" not in said:
            raise AssertionError(f"no collector: {said}{self.end(signal.SIGKILL)}")
        self.port = int(said.rsplit(":", 1)[1].split("/")[0])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def end(self, how: signal.Signals) -> str:
        """What it had written to its standard error by its end."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.communicate(timeout=30)[1]

    def events(self, kind: str = "events") -> list[dict[str, Any]]:
        """Every line that a file stream would see."""
        files = sorted((self.out / "collector" / kind).glob(f"{kind}-*.jsonl"))
        lines = [line for file in files for line in file.read_bytes().split(b"\n") if line]
        return [json.loads(line) for line in lines]

    def parts(self, kind: str = "events") -> list[Path]:
        return sorted((self.out / "collector" / kind).glob(".*.part"))


@contextmanager
def service(out: Path, *arguments: object) -> Iterator[Service]:
    """A collector that is gone afterwards, however the test ends."""
    running = Service(out, *arguments)
    try:
        yield running
    finally:
        running.end(signal.SIGKILL)


@dataclass(frozen=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One keep-alive HTTP/1.1 connection: as little client as there can be, to measure the server.

    `async with Connection(port) as connection`.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Connection:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def post(self, body: bytes, **headers: str) -> Answered:
        """Underscores of header names stand for hyphens. Raises OSError, EOFError."""
        return await self.request("POST", "/events", body, **headers)

    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answered:
        sent = {"Host": "localhost", "Authorization": f"Bearer {TOKEN}"}
        sent = {**sent, **{name.replace("_", "-"): text for name, text in headers.items()}}
        if "Transfer-Encoding" not in sent:
            sent = {"Content-Length": str(len(body)), **sent}
        head = "".join(f"{name}: {text}\r\n" for name, text in sent.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        await self.writer.drain()
        return await self.answer()

    async def answer(self) -> Answered:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in head[1:] if line)
        headers = {name.lower(): text for name, _, text in pairs}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answered(int(head[0].split()[1]), headers, body)


def ask(running: Service, body: bytes | str, **headers: str) -> Answered:
    """One request on a connection of its own."""
    return asyncio.run(_ask(running.port, body, headers))


async def _ask(port: int, body: bytes | str, headers: dict[str, str]) -> Answered:
    async with asyncio.timeout(20), Connection(port) as connection:
        return await connection.post(body.encode() if isinstance(body, str) else body, **headers)
