"""One lesson: what a rank learns, from what state, and where it leaves the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from recsys_lib.model.catalog import Catalog
from recsys_lib.model.requests import Task
from recsys_lib.settings import ModelSettings, PruneSettings, RanksSettings, TrainSettings
from recsys_lib.types import Exemplars


class Rows(Protocol):
    """Pinned sequence rows, picklable: read by the ranks, and only counted by the driver."""

    def count(self, windows: tuple[int, int], enough: int) -> int:
        """How many these windows have, counted until there are `enough`."""
        ...

    def batches(
        self, windows: tuple[int, int], rank: int, ranks: int, epoch: int
    ) -> Iterator[pa.RecordBatch]:
        """Rows of windows first..last (inclusive) that are this rank's share."""
        ...

    def exemplars(
        self, windows: tuple[int, int], rank: int, ranks: int, epoch: int, choice: Exemplars
    ) -> Iterator[pa.RecordBatch]:
        """Some of this rank's rows of these windows, to be rehearsed."""
        ...


class Kept(Protocol):
    """One file that outlives a rank, on a file system that all ranks reach. Picklable."""

    def put(self, file: Path) -> None:
        """Replace what was kept, whole or not at all; `file` is used up."""
        ...

    def get(self, folder: Path) -> Path | None:
        """A local copy in `folder`; None where nothing is kept."""
        ...


class Tell(Protocol):
    """Takes the word of a rank that a step is done."""

    def __call__(self, step: int, steps: int, loss: float | None = None) -> None: ...


class Pruner(Protocol):
    """How a fine-tune prunes (see compress.prune); passed in, so that rooms stay apart."""

    def wrap(self, layer: Any) -> Any:
        """The layer, masked by magnitude if it is one to prune."""
        ...

    def at_step(self, network: Any, step: int) -> None:
        """Tell every mask which step of the schedule it is."""
        ...

    def resume(self, network: Any) -> None:
        """Masks of a lesson that goes on where it was left."""
        ...

    def sparsity(self, arrays: dict[str, Any]) -> dict[str, float]:
        """Share of zeros by variable name, of the variables that are pruned."""
        ...


@dataclass(frozen=True)
class Lesson:
    """Everything `learn_increment` needs. Windows are inclusive; `rehearse` None: no old rows.

    read_catalog is called in the rank, so that nothing large travels through the driver. `teacher`
    is a model folder whose answers are kept on every example; where there is none, those of the
    parent are, on the rehearsed ones. `finish` is called with the folder by the first rank when
    the model is saved there.

    `kept` holds the lesson's checkpoint, `tell` hears of every step, and `rest` is called when the
    steps are over.
    """

    windows: tuple[int, int]
    rehearse: tuple[int, int] | None
    rows: Rows
    read_catalog: Callable[[], Catalog]
    parent: str | None
    folder: str
    task: Task
    targets: tuple[str, ...]
    model: ModelSettings
    train: TrainSettings
    prune: PruneSettings
    pruner: Callable[[PruneSettings, int, float], Pruner] | None
    seed: int
    lineage: dict[str, Any]
    teacher: str | None = None
    finish: Callable[[str], None] | None = None
    ranks: RanksSettings = field(default_factory=RanksSettings)
    kept: Kept | None = None
    tell: Tell | None = None
    rest: Callable[[], None] | None = None
