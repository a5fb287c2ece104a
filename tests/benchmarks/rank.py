"""What a rank of the benchmark does, beside learning: it keeps to one core, and looks at clocks."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recsys_lib.train.lesson import Lesson

SIZES = (1 << 12, 1 << 16, 1 << 18, 1 << 20, 1 << 22)
"""Bytes of the all-reduces whose times are measured."""


@dataclass(frozen=True)
class Work:
    """A lesson whose first `warm` steps are not counted. `core` of the first rank; the second one
    dies once, after step `dies`, and says when in the file `mark`."""

    lesson: Lesson
    warm: int
    core: int = 0
    dies: int = 0
    mark: str = ""


def learn(work: Work) -> dict[str, Any]:
    from recsys_lib.adapters.ranks import tell
    from recsys_lib.train import loop, steps

    lesson, warm = work.lesson, work.warm
    _keep_to_one_core(work.core)
    marks: list[tuple[float, float, int]] = []
    first: list[float] = []
    looked: dict[str, Any] = {}
    rows_of, batches_of, data = steps.looked_up, loop.prefetched, _Waiting()

    def noted(*args: Any) -> Any:
        looked.update(rows_of(*args))
        return looked

    def waited(batches: Any) -> Any:
        made, one = batches_of(batches)
        return data.over(made), one

    def told(step: int, count: int, loss: float | None = None) -> None:
        first.append(time.time())
        if step >= warm:
            marks.append((time.monotonic(), time.process_time(), _sent()))
        if step == warm:
            data.seconds = 0.0
        tell(step, count, loss)
        if work.dies and step == work.dies and os.environ["HOROVOD_RANK"] == "1":
            _die_once(Path(work.mark))

    steps.looked_up, loop.prefetched = noted, waited
    summary = loop.learn_increment(replace(lesson, tell=told))
    (begun, cpu, sent), (ended, cpu_then, sent_then) = marks[0], marks[-1]
    seconds, count = ended - begun, len(marks) - 1
    return {
        "ranks": summary["ranks"],
        "resumed": summary["resumed"],
        "first_step": first[0],
        "step_seconds": seconds / count,
        "waiting": max(0.0, 1 - (cpu_then - cpu) / seconds),
        "for_data": data.seconds / seconds,
        "sent": (sent_then - sent) / count,
        **_sizes(lesson, looked, summary["ranks"]),
    }


def network_times(_: None) -> dict[str, Any]:
    """Seconds of all-reduces between two ranks, by bytes; `latency`: of four bytes."""
    import horovod.tensorflow as hvd
    import numpy as np

    hvd.init()

    def seconds(size: int) -> float:
        values, times = np.ones(size // 4, np.float32), []
        for number in range(40):
            begun = time.perf_counter()
            hvd.allreduce(values, name=f"{size}")
            times = [*times, time.perf_counter() - begun][-30 if number > 9 else 0 :]
        return float(np.median(times))

    return {"latency": seconds(4), "seconds": {size: seconds(size) for size in SIZES}}


class _Waiting:
    """Seconds that a consumer of batches stood still."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, batches: Any) -> Any:
        while True:
            begun = time.monotonic()
            batch = next(batches)
            self.seconds += time.monotonic() - begun
            yield batch


def _keep_to_one_core(first: int) -> None:
    """One rank shall not be the faster for a core that the second one needs."""
    cores = sorted(os.sched_getaffinity(0))
    core = first + int(os.environ["HOROVOD_LOCAL_RANK"])
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def _sent() -> int:
    """Bytes that this machine has sent to itself."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return int(next(line for line in lines if line.strip().startswith("lo:")).split()[9])


def _die_once(mark: Path) -> None:
    if not mark.exists():
        mark.write_text(str(time.time()))
        os.kill(os.getpid(), signal.SIGKILL)


def _sizes(lesson: Lesson, looked: dict[str, Any], ranks: int) -> dict[str, Any]:
    """Bytes of a step by formula, and how each table is joined."""
    import numpy as np

    from recsys_lib.train.reduce import best_way, bytes_of

    if ranks == 1 or not Path(lesson.folder).exists():
        return {"formula": {"dense": 0.0}, "ways": {}, "parts": {"dense": 0, "tables": {}}}
    with np.load(Path(lesson.folder) / "weights.npz") as arrays:
        dense = sum(arrays[n].nbytes for n in arrays.files if not n.endswith("/embeddings"))
    tables = {name: bytes_of(best_way(rows, ranks), rows, ranks) for name, rows in looked.items()}
    return {
        # Each rank sends its own part, and all of them are on this machine.
        "formula": {"dense": 2 * (ranks - 1) * dense, "tables": ranks * sum(tables.values())},
        "ways": {name: best_way(rows, ranks) for name, rows in looked.items()},
        "parts": {"dense": dense, "tables": looked},
    }
