"""Where a lesson stands, so that ranks that are launched again go on from there.

Position is counted in examples over all ranks, because fewer ranks may go on than have begun.
Dropout draws anew after a return: the weights come out close to those of an undisturbed lesson,
not equal.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import horovod.tensorflow as hvd
import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.network import Network
from recsys_lib.model.tensorflow import tf
from recsys_lib.model.weights import load_arrays, named_arrays
from recsys_lib.train.lesson import Kept, Lesson
from recsys_lib.train.optimizers import load_slots, save_slots

Arrays = dict[str, NDArray[Any]]
FACTS = "facts.json"
LAUNCH = {"ranks", "rank_rows", "threads_per_rank", "start_seconds"}
"""Settings of `train` that say how ranks are started, and not what they learn."""


@dataclass(frozen=True)
class Standing:
    """`weights` and `slots` by name; `seen` examples over all ranks; `curve`: losses by step."""

    weights: Arrays
    slots: Arrays
    seen: int
    curve: list[tuple[int, float]]


def lesson_key(lesson: Lesson) -> str:
    """Equal for the same lesson, on however many ranks: what another one left is not gone on from.
    The lineage names windows, parent, and the versions of tables and vocabulary; of its settings
    count those of what is learned."""
    settings = lesson.lineage.get("settings", {})
    lineage = {**lesson.lineage, "settings": {n: settings.get(n) for n in ("features", "compress")}}
    facts = {"lineage": lineage, "seed": lesson.seed, "teacher": bool(lesson.teacher)}
    train = lesson.train.model_dump(exclude=LAUNCH)
    sizes = [lesson.model.model_dump(), lesson.prune.model_dump(), train]
    told = json.dumps([facts, lesson.windows, lesson.rehearse, sizes], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()


def read_standing(kept: Kept, key: str) -> Standing | None:
    """What was kept of this lesson; None where there is nothing, or another lesson's."""
    folder = Path(tempfile.mkdtemp(prefix="alluvium-checkpoint-"))
    try:
        file = kept.get(folder)
        if file is None:
            return None
        with np.load(file) as arrays:
            facts = json.loads(bytes(arrays[FACTS]))
            if facts["key"] != key:
                return None
            curve = [(step, loss) for step, loss in facts["curve"]]
            weights, slots = (_part(arrays, name) for name in ("weights/", "slots/"))
            return Standing(weights, slots, facts["seen"], curve)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_standing(kept: Kept, key: str, standing: Standing) -> None:
    """Keep it in place of what was kept before."""
    folder = Path(tempfile.mkdtemp(prefix="alluvium-checkpoint-"))
    try:
        facts = {"key": key, "seen": standing.seen, "curve": standing.curve}
        arrays = {f"weights/{name}": array for name, array in standing.weights.items()}
        arrays |= {f"slots/{name}": array for name, array in standing.slots.items()}
        told = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        np.savez(folder / "checkpoint.npz", **{FACTS: told}, **arrays)
        kept.put(folder / "checkpoint.npz")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Keeper:
    """Takes the network to where an earlier launch of the lesson stood, and writes down where it
    stands every so many seconds, by a thread of its own.

    The first rank reads and writes: after an all-reduce every rank holds the same weights. All
    ranks know what was seen; broadcast the variables after this.
    """

    def __init__(
        self, lesson: Lesson, network: Network, built: Any, variables: dict[str, tf.Variable]
    ) -> None:
        self._network, self._built, self._variables = network, built, variables
        self._kind, self._seconds = lesson.train.optimizer, lesson.ranks.checkpoint_seconds
        self._kept = lesson.kept if hvd.rank() == 0 else None
        self._key = lesson_key(lesson)
        self._writing: threading.Thread | None = None
        self._fault: BaseException | None = None
        found = read_standing(self._kept, self._key) if self._kept else None
        if found:
            load_arrays(network, found.weights)
            load_slots(self._kind, built, variables, found.slots)
        told = (found.seen, found.curve) if found else (0, [])
        told = hvd.broadcast_object(told, root_rank=0) if lesson.kept else told
        self.seen: int = told[0]
        self.curve: list[tuple[int, float]] = told[1]
        self._last = time.monotonic()

    def after(self, seen: int, curve: list[tuple[int, float]]) -> None:
        """A step is done. Raises what the last write has met."""
        if self._kept is None or time.monotonic() - self._last < self._seconds:
            return
        if self._writing is not None and self._writing.is_alive():
            return
        if self._fault is not None:
            raise self._fault
        self._last = time.monotonic()
        slots = save_slots(self._kind, self._built, self._variables)
        standing = Standing(named_arrays(self._network), slots, seen, list(curve))
        self._writing = threading.Thread(target=self._write, args=(standing,), daemon=True)
        self._writing.start()

    def finish(self) -> None:
        """The lesson is learned: nothing is written from now on. Who launched it drops what is
        kept, once the model has been delivered."""
        if self._writing is not None:
            self._writing.join()

    def _write(self, standing: Standing) -> None:
        try:
            if self._kept is not None:
                write_standing(self._kept, self._key, standing)
        except BaseException as error:
            self._fault = error


def _part(arrays: Any, prefix: str) -> Arrays:
    return {
        name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)
    }
