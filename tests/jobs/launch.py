"""Run a job as a user does, and end everything that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARK = "ALLUVIUM_TEST_LAUNCH"
LAST_MOMENTS = 15.0
SMALL = {
    "run.progress": "false",
    "model.embedding_size": 16,
    "model.blocks": 1,
    "model.feed_forward_size": 16,
    "model.copy_size": 8,
    "model.recent_events": 16,
    "model.copy_items": 32,
    "train.epochs": 2,
    "train.min_steps": 1,
    "train.rank_rows": 1,
    "train.increment_epochs": 1,
    "train.increment_steps": 1,
    "train.batch_size": 32,
    "evaluate.bootstrap": 50,
    "gate.min_users": 10,
}


# A job of a test lives for seconds: what is compiled or verified for it is never paid back.
JAVA = (
    "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC "
    "-XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
)
CONF = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.ui.enabled": "false",
}


@dataclass(frozen=True)
class Ended:
    """What a job left on the terminal."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def said(self) -> str:
        return f"{self.out}\n{self.err}"


class Job:
    """spark-submit of a job, in a session of its own. Its processes carry a mark in their
    environment, because Spark's and Horovod's workers make process groups of their own."""

    def __init__(
        self,
        name: str,
        *args: object,
        log: Path,
        small: bool = True,
        conf: Mapping[str, str] = CONF,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.mark = uuid.uuid4().hex
        sets = [f"--set={key}={value}" for key, value in SMALL.items()] if small else []
        command = [
            str(Path(sys.executable).with_name("spark-submit")),
            f"--driver-java-options={JAVA}",
            *(f"--conf={key}={value}" for key, value in conf.items()),
            *options,
            f"jobs/{name}.py",
            *map(str, args),
            *sets,
        ]
        self.started = time.monotonic()
        self._out, self._err = log.with_suffix(".out"), log.with_suffix(".err")
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**_environment(self.mark), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def wait(self, timeout: float = 900) -> Ended:
        try:
            code = self.process.wait(timeout)
        except BaseException:
            self.kill()
            raise
        seconds = time.monotonic() - self.started
        return Ended(code, self._out.read_text(), self._err.read_text(), seconds)

    def kill_when(self, happens: Callable[[], bool], timeout: float = 900) -> bool:
        """SIGKILL for every process as soon as `happens`; False where the job ended before."""
        end = time.monotonic() + timeout
        while not happens():
            if self.process.poll() is not None:
                return False
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(self._err.read_text()[-2000:])
            time.sleep(0.02)
        self.kill()
        return True

    def kill(self) -> None:
        """Until none is left: a process may be starting another one just now."""
        while pids := self.processes():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)
        self.process.wait()

    def left(self, after: float) -> list[int]:
        """Processes that have not ended `after` so many seconds, which a busy machine may take."""
        end = time.monotonic() + after
        while (pids := self.processes()) and time.monotonic() < end:
            time.sleep(0.1)
        return pids

    def processes(self) -> list[int]:
        """Living processes that descend from this job."""
        mine = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                marked = mine in (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if marked:  # a zombie's environment is empty
                found.append(int(folder.name))
        return found


def run(
    name: str,
    *args: object,
    log: Path,
    small: bool = True,
    timeout: float = 900,
    conf: Mapping[str, str] = CONF,
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Run a job to its end. Fails where it leaves a process behind."""
    job = Job(name, *args, log=log, small=small, conf=conf, env=env)
    ended = job.wait(timeout)
    left = job.left(after=LAST_MOMENTS)
    job.kill()
    assert not left, f"{name} left processes behind: {left}"
    return ended


def _environment(mark: str) -> dict[str, str]:
    """A fresh terminal's: no trace of a session that the tests may have opened."""
    hidden = ("SPARK_", "PYSPARK_", "PYTEST_", "MLFLOW_", "TF_", "HOROVOD_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    path = f"{Path(sys.executable).parent}:{kept.get('PATH', '')}"
    return {**kept, "PATH": path, MARK: mark}
