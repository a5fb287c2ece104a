"""A rank's Spark task: it starts the rank as a process of its own, relays what it says to the
driver, and ends it when the driver wants that or is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory, gettempdir
from typing import IO, Any

from recsys_lib.adapters.ranks.hub import Line
from recsys_lib.adapters.ranks.telling import TELLS


@dataclass(frozen=True)
class Call:
    """Where the driver listens, and what the rank shall run (pickled function and argument)."""

    host: str
    port: int
    secret: str
    rendezvous: int
    environment: Mapping[str, str]
    work: bytes

    def __call__(self, _: Iterable[Any]) -> Iterator[bytes]:
        """Runs in the task. Yields what the rank returned; nothing where it ended otherwise: the
        driver has been told why, and a failed task would only make Spark start the stage again."""
        from pyspark import BarrierTaskContext

        context = BarrierTaskContext.get()
        hosts = [info.address.rpartition(":")[0] or info.address for info in context.getTaskInfos()]
        rank = context.partitionId()
        gpus = context.resources()["gpu"].addresses if "gpu" in context.resources() else None
        line = Line(self.host, self.port, self.secret, rank)
        try:
            found = self._run(line, placed(hosts, rank), gpus)
        finally:
            line.close()
        if found is not None:
            yield found

    def _run(
        self, line: Line, place: Mapping[str, str], gpus: Sequence[str] | None
    ) -> bytes | None:
        devices = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
        rendezvous = {
            "HOROVOD_GLOO_RENDEZVOUS_ADDR": self.host,
            "HOROVOD_GLOO_RENDEZVOUS_PORT": str(self.rendezvous),
        }
        environment = {**os.environ, **self.environment, **devices, **rendezvous, **place}
        # A rank ends at once, or is killed: what TensorFlow leaves in its folder goes with it. The
        # models that it fetches stay for others (see places).
        shared = os.environ.get("LOCAL_DIRS") or gettempdir()
        with TemporaryDirectory(prefix="alluvium-rank-", ignore_cleanup_errors=True) as folder:
            own = {"TMPDIR": folder, "LOCAL_DIRS": shared}
            return self._watched(line, {**environment, **own})

    def _watched(self, line: Line, environment: Mapping[str, str]) -> bytes | None:
        tells, told = os.pipe()
        own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), TELLS: str(told)}
        child = subprocess.Popen(
            [sys.executable, "-m", "recsys_lib.adapters.ranks.child"],
            env={**environment, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(told,),
        )
        os.close(told)
        ending = threading.Event()
        for action in (lambda: _end_with(line, child, ending), lambda: _relay(child.stdout, line)):
            threading.Thread(target=action, daemon=True).start()
        threading.Thread(target=_feed, args=(child, self.work), daemon=True).start()
        result = None
        with os.fdopen(tells) as lines:
            for text in lines:
                message = json.loads(text)
                if "result" in message:
                    result = bytes.fromhex(message["result"])
                else:
                    line.send(message)
        code = child.wait()
        if result is not None:
            line.send({"done": True})
        elif not ending.is_set():
            line.send({"gone": _how(code)})
        return result


def placed(hosts: Sequence[str], rank: int) -> dict[str, str]:
    """Horovod's variables of the `rank`-th task, by the hosts of all tasks in order."""
    host, counts = hosts[rank], Counter(hosts)
    local = hosts[:rank].count(host)
    across = [name for name in dict.fromkeys(hosts) if counts[name] > local]
    return {
        "HOROVOD_HOSTNAME": host,
        "HOROVOD_RANK": str(rank),
        "HOROVOD_SIZE": str(len(hosts)),
        "HOROVOD_LOCAL_RANK": str(local),
        "HOROVOD_LOCAL_SIZE": str(counts[host]),
        "HOROVOD_CROSS_RANK": str(across.index(host)),
        "HOROVOD_CROSS_SIZE": str(len(across)),
    }


def _feed(child: subprocess.Popen[bytes], work: bytes) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(work)
        child.stdin.close()
    except BrokenPipeError:
        pass  # it has ended; its exit code says why


def _relay(output: IO[bytes] | None, line: Line) -> None:
    for text in output or ():
        line.send({"said": text.decode(errors="replace").rstrip("\n")})


def _end_with(line: Line, child: subprocess.Popen[bytes], ending: threading.Event) -> None:
    line.wait_closed()
    ending.set()
    child.kill()


def _how(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"
