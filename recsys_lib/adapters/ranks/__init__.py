"""Run a function on N Horovod ranks inside Spark tasks, and go on without those that are lost.

Ranks are the tasks of a barrier stage, one per slot (or GPU) of the executors. Each is a process
of its own that the task starts, ends and listens to; what it says goes over one connection to the
driver, which notices a rank that dies or falls silent, ends the others, and launches the job again
on the slots that are left. What had been learned is the function's own business: see
`recsys_lib.train.checkpoint`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lib.adapters.ranks.attempt import Attempt, LostError, Plan, free_slots
from recsys_lib.adapters.ranks.bar import ProgressBar
from recsys_lib.adapters.ranks.telling import patient, tell
from recsys_lib.errors import RanksError
from recsys_lib.settings import RanksSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["patient", "run_on_ranks", "tell"]

LOOK_SECONDS = 0.5


def run_on_ranks(
    function: Callable[[Any], dict[str, Any]],
    argument: Any,
    *,
    ranks: int,
    threads: int,
    timeout: float,
    log: str,
    settings: RanksSettings | None = None,
    label: str | None = None,
) -> dict[str, Any]:
    """`function(argument)` on every rank; the first rank's result.

    Ranks print to the local file `log`. With a `label` their steps are shown as a progress bar.
    Raises RanksError where the function raises, where not all ranks have started in `timeout`
    seconds, and where ranks were lost more than `settings.relaunches` times.
    """
    from pyspark.sql import SparkSession

    found = settings or RanksSettings()
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    spark = SparkSession.builder.getOrCreate()
    faults: list[str] = []
    with open(log, "a", buffering=1) as output, ProgressBar(label) as bar:
        while True:
            wait = found.wait_seconds if faults else timeout
            size = _slots(spark, ranks, wait)
            if size < ranks:
                print(f"{size} slots for {ranks} ranks: as many go on", file=output)
            plan = Plan(size, threads, timeout, found.stall_seconds, _environment(found, threads))
            try:
                return Attempt(spark, plan, output, bar.show).run(function, argument)
            except LostError as error:
                faults = [*faults, str(error)]
                print(f"lost: {error}", file=output)
            if len(faults) > found.relaunches:
                raise RanksError(
                    f"all {ranks} ranks must finish, got: {faults[-1]}, after {len(faults) - 1} "
                    f"relaunches (ranks.relaunches); the champion is as it was, see {log}, then "
                    "run the same command again"
                )


def _slots(spark: SparkSession, wanted: int, seconds: float) -> int:
    """As many as are wanted; fewer where the others do not come (back) in time."""
    # A local master has all the slots that it will ever have.
    local = str(spark.sparkContext.master).startswith("local")
    end = time.monotonic() + (0.0 if local else seconds)
    while (free := free_slots(spark)) < wanted and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
    if not free:
        raise RanksError(
            f"ranks must have slots to run in, got none in {seconds:.0f} s; look at the cluster's "
            "executors, then run the same command again"
        )
    return min(wanted, free)


def _environment(settings: RanksSettings, threads: int) -> dict[str, str]:
    interface = {"HOROVOD_GLOO_IFACE": settings.interface} if settings.interface else {}
    return {
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",
        "HOROVOD_LOG_LEVEL": "error",
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_FUSION_THRESHOLD": str(settings.fusion_mib << 20),
        "HOROVOD_CYCLE_TIME": str(settings.cycle_ms),
        "HOROVOD_AUTOTUNE": "0",
        **interface,
    }
