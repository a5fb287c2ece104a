"""One launch of all ranks, watched until they have finished or one of them is lost."""

from __future__ import annotations

import pickle
import queue
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from recsys_lib.adapters.ranks.hub import Hub
from recsys_lib.adapters.ranks.task import Call
from recsys_lib.errors import RanksError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

GRACE_SECONDS = 1.0
"""When a rank ends, its peers notice: of all they say then the first cause is looked for."""
END_SECONDS = 20.0
LOOK_SECONDS = 0.2


class LostError(Exception):
    """Ranks ended or fell silent through no fault of what they ran; launch them again."""


@dataclass(frozen=True)
class Plan:
    """How many ranks, and how long each may be silent: before the first step, and after it."""

    ranks: int
    threads: int
    start_seconds: float
    stall_seconds: float
    environment: dict[str, str]


@dataclass
class _State:
    """What is known of the ranks. `heard`: rank -> (when, how long it may be silent)."""

    heard: dict[int, tuple[float, float]] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    step: int = 0


class Attempt:
    """`show` gets the first rank's steps; `output` every line that ranks print."""

    def __init__(
        self,
        spark: SparkSession,
        plan: Plan,
        output: TextIO,
        show: Callable[[dict[str, Any]], None],
    ) -> None:
        self._spark, self._plan, self._output, self._show = spark, plan, output, show

    def run(self, function: Callable[[Any], dict[str, Any]], argument: Any) -> dict[str, Any]:
        """The first rank's result. Raises LostError, or RanksError where `function` raised."""
        from pyspark import cloudpickle

        hub, rendezvous = Hub(), _rendezvous()
        host = _driver_host(self._spark)
        work = cloudpickle.dumps((function, argument))
        call = Call(host, hub.port, hub.secret, rendezvous.port, dict(self._plan.environment), work)
        job = _Job(self._spark, call, self._plan.ranks)
        try:
            self._watch(hub, job)
        finally:
            hub.close()
            job.end()
            rendezvous.stop()
        return dict(pickle.loads(job.results[0]))

    def _watch(self, hub: Hub, job: _Job) -> None:
        state, ranks = _State(), self._plan.ranks
        begun = looked = time.monotonic()
        while len(state.done) < ranks or job.running:
            with suppress(queue.Empty):
                rank, message = hub.said.get(timeout=LOOK_SECONDS)
                self._take(state, rank, message, hub)
            if time.monotonic() - looked > LOOK_SECONDS:  # many ranks are never all silent
                self._look(state, begun, job)
                looked = time.monotonic()
        if len(job.results) < ranks:
            raise LostError(f"only {len(job.results)} of {ranks} ranks gave a result")

    def _look(self, state: _State, begun: float, job: _Job) -> None:
        now, plan = time.monotonic(), self._plan
        if len(job.results) == plan.ranks:  # faster than the word that they are done
            state.done.update(range(plan.ranks))
            return
        if not job.running and len(state.done) < plan.ranks:
            raise LostError(f"Spark ended the job of the ranks: {job.fault or 'without a word'}")
        here = len(state.heard)
        if here < plan.ranks and now - begun > plan.start_seconds:
            raise LostError(f"{here} of {plan.ranks} ranks started in {plan.start_seconds:.0f} s")
        for rank, (when, patience) in state.heard.items():
            if rank not in state.done and now - when > patience:
                raise LostError(
                    f"rank {rank} was silent for {now - when:.0f} s after step {state.step}"
                )

    def _take(self, state: _State, rank: int, message: dict[str, Any], hub: Hub) -> None:
        plan = self._plan
        if "said" in message:
            print(f"[{rank}] {message['said']}", file=self._output)
            return
        patience = plan.stall_seconds if "step" in message else plan.start_seconds
        state.heard[rank] = (time.monotonic(), patience)
        if "here" in message and len(state.heard) == plan.ranks:
            print(f"all {plan.ranks} ranks are here", file=self._output)
        elif "step" in message and rank == 0:
            state.step = message["step"]
            self._show(message)
        elif "done" in message:
            state.done.add(rank)
        elif rank not in state.done and {"gone", "failed", "peer"} & set(message):
            self._explain(rank, message, hub, state.step)

    def _explain(self, rank: int, message: dict[str, Any], hub: Hub, step: int) -> None:
        """Raise what the first cause of it was: ranks that lose a peer fail too."""
        told = [(rank, message)]
        end = time.monotonic() + GRACE_SECONDS
        while (left := end - time.monotonic()) > 0:
            try:
                told = [*told, hub.said.get(timeout=left)]
            except queue.Empty:
                break
        for number, other in told:
            if "said" in other:
                print(f"[{number}] {other['said']}", file=self._output)
        failed = next(((n, m["failed"]) for n, m in told if "failed" in m), None)
        if failed is not None:
            raise RanksError(
                f"all {self._plan.ranks} ranks must finish, got: rank {failed[0]}: {failed[1]}; "
                f"the champion is as it was, see {self._output.name}, then run the same command "
                "again"
            )
        own = {n for n, m in told if "peer" in m}
        gone = [(n, m["gone"]) for n, m in told if "gone" in m and n not in own]
        number, how = gone[0] if gone else (rank, f"lost its peers: {message['peer']}")
        raise LostError(f"rank {number} {how} after step {step}")


class _Job:
    """The Spark job whose tasks are the ranks, run in a thread; `end` leaves nothing of it."""

    def __init__(self, spark: SparkSession, call: Call, ranks: int) -> None:
        from pyspark import InheritableThread

        self._context = spark.sparkContext
        self._group = f"ranks-{uuid.uuid4().hex[:8]}"
        self.results: list[bytes] = []
        self.fault: str | None = None
        self._thread = InheritableThread(target=self._run, args=(call, ranks))
        self._thread.daemon = True
        self._thread.start()

    @property
    def running(self) -> bool:
        return bool(self._thread.is_alive())

    def end(self) -> None:
        """Tasks end when the hub is closed; what does not is cancelled."""
        self._thread.join(3.0)
        if self._thread.is_alive():
            self._context.cancelJobGroup(self._group)
            self._thread.join(END_SECONDS)

    def _run(self, call: Call, ranks: int) -> None:
        self._context.setJobGroup(self._group, "ranks", interruptOnCancel=True)
        try:
            rows = self._context.parallelize(range(ranks), ranks).barrier()
            self.results = rows.mapPartitions(call).collect()
        except Exception as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            self.fault = lines[0][:300] if lines else type(error).__name__


@dataclass(frozen=True)
class _Rendezvous:
    """Where Gloo's ranks find each other; kept by the driver for as long as they run."""

    port: int
    stop: Callable[[], None]


def _rendezvous() -> _Rendezvous:
    from horovod.runner.http.http_server import RendezvousServer

    server = RendezvousServer()
    port = server.start()

    def stop() -> None:
        server.stop()
        server._httpd.server_close()

    return _Rendezvous(port, stop)


def _driver_host(spark: SparkSession) -> str:
    """An address of this driver that its executors reach: the one they report to."""
    host = spark.sparkContext.getConf().get("spark.driver.host") or socket.gethostname()
    return socket.gethostbyname(host)


def free_slots(spark: SparkSession) -> int:
    """Tasks that the executors which are there can run at once."""
    jvm = spark.sparkContext._jsc.sc()  # type: ignore[attr-defined]
    profile = jvm.resourceProfileManager().defaultResourceProfile()
    return int(jvm.maxNumConcurrentTasks(profile))
