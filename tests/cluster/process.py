"""A server as a plain process: started, asked whether it is well, and ended by its id alone.

Its id is written beside its data, with the moment it was started, so that whoever comes after a
crash ends the right process and never another one that was given the same number.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 15.0


class ClusterError(RuntimeError):
    """A server did not come up; the message holds the last lines it wrote."""


class MissingError(ClusterError):
    """The machine lacks what a part of the cluster needs, which says nothing about our code."""


@dataclass(frozen=True)
class Service:
    """One process of the cluster.

    prepare  what must be done once before the first start, with the service's folder
    healthy  whether it answers; asked until it does, and again after each restart
    """

    name: str
    folder: Path
    command: Sequence[str]
    healthy: Callable[[], bool]
    prepare: Callable[[Path], None] = lambda _: None
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def _pid_file(self) -> Path:
        return self.folder / "process.json"

    def start(self) -> None:
        """Returns once it is healthy. Raises ClusterError."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start without waiting, unless it runs already."""
        if self.pid() is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "prepared").exists():
            self.prepare(self.folder)
            (self.folder / "prepared").touch()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                list(self.command),
                cwd=self.folder,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        told = {"pid": process.pid, "started": _started(process.pid)}
        self._pid_file.write_text(json.dumps(told))

    def wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.pid() is None:
                break
            if _answers(self.healthy):
                return
            time.sleep(0.1)
        last = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        raise ClusterError(f"{self.name} is not healthy after {START_SECONDS:.0f} s; {last}")

    def stop(self, *, hard: bool = False) -> None:
        """SIGTERM, then SIGKILL where that is not enough; `hard`: SIGKILL at once."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL if hard else signal.SIGTERM)
            end = time.monotonic() + STOP_SECONDS
            while self.pid() is not None:
                if time.monotonic() > end:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
        self._pid_file.unlink(missing_ok=True)

    def pid(self) -> int | None:
        """Its process, if it lives."""
        try:
            told = json.loads(self._pid_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        started = _started(told["pid"])
        return told["pid"] if started is not None and started == told["started"] else None


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=2):
        return True


def java(heap: str, jars: Sequence[Path], main: str, *options: str) -> list[str]:
    """A small JVM: its servers live for minutes, so little is compiled for them."""
    home = os.environ.get("JAVA_HOME")
    program = str(Path(home) / "bin" / "java") if home else shutil.which("java") or "java"
    small = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Xmx{heap}", "-Xms32m"]
    return [program, *small, *options, "-cp", ":".join(map(str, jars)), main]


def _answers(healthy: Callable[[], bool]) -> bool:
    try:
        return healthy()
    except (OSError, ValueError, LookupError):
        return False


def _started(pid: int) -> int | None:
    """Clock tick at which the process began; None where it is gone or only a zombie."""
    try:
        with Path(f"/proc/{pid}/stat").open() as stat:
            facts = stat.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if facts[0] == "Z":
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # ours: take it off the table
        return None
    return int(facts[19])
