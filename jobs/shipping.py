"""From what a fine-tune has learned to what is shipped: called in the first rank, where TensorFlow
is open already and the rows are near."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recsys_lib.adapters.places import delivery, fetch
from recsys_lib.compress.widths import Shares, target, widths
from recsys_lib.model.bundle import manifest_of
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Histories
from recsys_lib.model.requests import Task, in_parts, requests, select
from recsys_lib.settings import CompressSettings, PruneSettings
from recsys_lib.train.lesson import Lesson, Rows
from recsys_lib.types import Form

GOLDEN = 100
"""Histories that go with a bundle, with their answers."""


@dataclass(frozen=True)
class Shipping:
    """Exports the model, with golden answers to histories of the windows that it learned."""

    settings: CompressSettings
    rows: Rows
    windows: tuple[int, int]
    task: Task
    targets: tuple[str, ...]
    form: Form

    def __call__(self, folder: str) -> None:
        from recsys_lib.compress.export import export
        from recsys_lib.model.bundle import Bundle

        bundle = Bundle.load(folder)
        export(bundle, folder, self.settings, self.golden(bundle.catalog), self.form)

    def golden(self, catalog: Catalog) -> Histories | None:
        """Of the newest window that has any: nobody may have come in the last ones."""
        types = catalog.type_indices(self.targets)
        first, last = self.windows
        for window in range(last, first - 1, -1):
            if not self.rows.count((window, window), 1):
                continue
            batches = self.rows.batches((window, window), 0, 1, 0)
            for rows in (part for batch in batches for part in in_parts(batch, self.task)):
                histories, _, _ = requests(rows, self.task, types)
                if len(histories):
                    return select(histories, np.arange(min(GOLDEN, len(histories))))
        return None


@dataclass(frozen=True)
class Shrinking:
    """Saves the model without its least heads and neurons, reading and ranking less of a user's
    past, for the next lesson to go on from."""

    settings: CompressSettings
    shares: Shares
    line: tuple[str, ...]
    prune: PruneSettings
    target: str

    def __call__(self, folder: str) -> None:
        from recsys_lib.compress.prune import MagnitudePruner
        from recsys_lib.compress.shrink import shortened, shrunk
        from recsys_lib.model.bundle import Bundle

        bundle = Bundle.load(folder)
        line = [Bundle.load(fetch(earlier)) for earlier in self.line]
        small = shrunk(bundle, self.shares, line)
        small = shortened(small, self.settings.read_events, self.settings.copy_items)
        sparsity = MagnitudePruner(self.prune, 1).sparsity(small.arrays)["total"]
        lineage = {**small.lineage, "sparsity": sparsity if bundle.lineage["sparsity"] else 0.0}
        with delivery(self.target) as place:
            replace(small, lineage=lineage).save(place)


def shrinks(lesson: Lesson, settings: CompressSettings) -> bool:
    """Only a fine-tune does: a first model has not pruned, so its magnitudes mean little."""
    if lesson.parent is None or not settings.shrink:
        return False
    spec = manifest_of(Path(fetch(lesson.parent)))["spec"]
    return target(spec, Shares.of(settings)) != widths(spec)


def taught(lesson: Lesson, settings: CompressSettings, small: str, folder: str) -> Lesson:
    """The small model learns the latest windows, and what the wide one says of them."""
    last = lesson.windows[1]
    train = lesson.train.model_copy(
        update={
            "increment_epochs": settings.distil_epochs,
            "increment_learning_rate": settings.distil_rate,
            "distillation": settings.distillation,
            "rehearsal": 0.0,
        }
    )
    return replace(
        lesson,
        windows=(last - settings.distil_windows + 1, last),
        rehearse=None,
        parent=small,
        teacher=f"{lesson.folder}.wide",
        folder=folder,
        train=train,
    )


def form_of(lesson: Lesson) -> Form:
    """What a lesson that is not shrunk makes."""
    if lesson.parent is None:
        return "dense"
    if manifest_of(Path(fetch(lesson.parent)))["spec"].get("block_heads"):
        return "shrunk"
    return "pruned" if lesson.prune.enabled else "dense"
