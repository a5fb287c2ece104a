"""Score before learning: on every window all learners and rivals answer, then the learners learn.

What was scored or learned is on disk (metrics/T.parquet, models/LEARNER/T), and is not done again.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from jobs.shop import catalog_reader
from recsys_lib.adapters.shards import CatalogReader, dataset
from recsys_lib.evaluate.baselines import PersonalFrequency, Popularity, RecencyFrequency
from recsys_lib.evaluate.intervals import Replicates, across_windows, replicates
from recsys_lib.evaluate.window import score_batch
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Scorer
from recsys_lib.model.requests import requests
from recsys_lib.model.scorer import ModelScorer
from tests.benchmarks.learners import Chain, plain_name
from tests.benchmarks.scorers import Events
from tests.benchmarks.shops import Landed

Rival = Callable[["Exam"], Scorer]
"""Makes a scorer of what is known when a window begins."""


@dataclass(frozen=True)
class Exam:
    """A window, and what is known when it begins."""

    landed: Landed
    window: int

    def shop(self) -> Catalog:
        """Items, their statistics and plans; neighbours."""
        return self._shop

    def recent(self, items: int) -> np.ndarray:
        windows = self.landed.context.settings.evaluate.popularity_windows
        return self._reader.recent_users(items, windows)

    @cached_property
    def _shop(self) -> Catalog:
        return self._reader()

    @cached_property
    def _reader(self) -> CatalogReader:
        pinned = self.landed.before(self.window)
        return catalog_reader(self.landed.context, self.window, 0, pinned)

    def rows(self, window: int | None = None) -> pa.Table:
        """Sequences of the window: who is asked, and what they did."""
        wanted = pc.field("window") == (self.window if window is None else window)
        path = self.landed.context.lake.path("sequences")
        found = dataset(path, None).to_table(filter=wanted)
        return found.sort_by("user") if len(found) else found

    def events(self, items: int) -> Events:
        """Everything before the window."""
        path = self.landed.context.lake.path("sequences")
        table = dataset(path, None).to_table(
            ["user", "items", "at", "known"], filter=pc.field("window") < self.window
        )
        lists = table.column("items").combine_chunks()
        lengths = np.asarray(lists.value_lengths()).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
        known = table.column("known").to_numpy()
        place = np.arange(lengths.sum()) - np.repeat(starts, lengths)
        new = place >= np.repeat(known, lengths)
        names = table.column("user").combine_chunks().dictionary_encode()
        user = np.repeat(np.asarray(names.indices), lengths)[new]
        item = np.asarray(lists.flatten())[new]
        at = np.asarray(table.column("at").combine_chunks().flatten())[new].astype(np.float64)
        order = np.lexsort((at, user))
        return Events(
            user[order].astype(np.int32),
            item[order].astype(np.int32),
            at[order],
            items,
            self.window,
        )


def baselines(exam: Exam) -> list[Scorer]:
    """Popularity, personal frequency, and the same weighted by recency."""
    recent = exam.recent(exam.shop().items)
    decay = exam.landed.context.settings.model.decay
    return [Popularity(recent), PersonalFrequency(recent), RecencyFrequency(recent, decay)]


def run(
    landed: Landed,
    chains: Sequence[Chain],
    rivals: dict[str, Rival],
    windows: Sequence[int],
    root: Path,
) -> Path:
    """Score, then learn, window by window; the folder of the metrics."""
    metrics = root / "metrics"
    metrics.mkdir(parents=True, exist_ok=True)
    bar = tqdm(windows, desc=f"{landed.shop.name}: windows", file=sys.stderr)
    for window in bar:
        for chain in chains:
            learned = chain.learned(window)
            if learned is not None:
                for step in _due(chain, learned):
                    bar.set_description(f"{landed.shop.name} {window}: {chain.learner.name} learns")
                    chain.learn(step)
        exam = Exam(landed, window)
        for name in ("baselines", *rivals, *(chain.learner.name for chain in chains)):
            target = metrics / f"{window:04d}-{plain_name(name)}.parquet"
            bar.set_description(f"{landed.shop.name} {window}: {name} answers")
            if not target.exists():
                scorers = _opened(name, exam, chains, rivals)
                if scorers:
                    _score(exam, scorers, target)
    return metrics


def _due(chain: Chain, learned: int) -> list[int]:
    """A chain that sat out still learns every window in between, but a full retrain need not."""
    if chain.learner.strategy == "full" or learned <= chain.first:
        return [learned]
    return list(range(chain.first, learned + 1))


def _opened(
    name: str, exam: Exam, chains: Sequence[Chain], rivals: dict[str, Rival]
) -> list[Scorer]:
    if name == "baselines":
        return baselines(exam)
    if name in rivals:
        return [rivals[name](exam)]
    chain = next(chain for chain in chains if chain.learner.name == name)
    learned = chain.learned(exam.window)
    if learned is None:
        return []
    return [ModelScorer(Bundle.load(chain.folder(learned)), exam.shop(), name)]


def _score(exam: Exam, scorers: Sequence[Scorer], target: Path) -> None:
    rows = exam.rows()
    context = exam.landed.context
    settings, mapping = context.settings.evaluate, context.mapping
    shop = exam.shop()
    types = shop.type_indices(mapping.targets)
    found, started = [], time.process_time()
    for batch in rows.to_batches(max_chunksize=settings.batch_rows):
        told, targets, row = requests(batch, mapping.task, types, shop.items)
        if len(told):
            for scorer in scorers:
                new = mapping.task == "next_window"
                found.append(score_batch(batch, scorer, told, targets, row, settings, new))
    if found:
        table = pa.Table.from_batches(found)
        seconds = {b"cpu_seconds": f"{time.process_time() - started:.2f}".encode()}
        part = target.with_suffix(".part")
        pq.write_table(table.replace_schema_metadata(seconds), part)
        os.replace(part, target)


def judged(landed: Landed, metrics: Path) -> dict[tuple[int, str], Replicates]:
    """Replicates of every window and scorer, all users."""
    settings = landed.context.settings
    rows = landed.context.spark.read.parquet(str(metrics))
    found = replicates(rows, settings.evaluate, settings.run.seed, slices=False)
    return {(window, scorer): part for (window, scorer, _), part in found.items()}


def mean_of(
    found: dict[tuple[int, str], Replicates], scorer: str, windows: Sequence[int]
) -> Replicates | None:
    """The mean over those of `windows` that have the scorer; None: it has not answered at all."""
    parts = [found[w, scorer] for w in windows if (w, scorer) in found]
    return across_windows(parts) if parts else None


def shown(found: Replicates, names: Sequence[str]) -> dict[str, Any]:
    """Values by metric with the 95 % interval over users."""
    out: dict[str, Any] = {}
    for name in names:
        values = found.means[name]
        low, high = np.quantile(values[1:], [0.025, 0.975])
        out[name] = float(values[0])
        out[f"{name} interval"] = [float(low), float(high)]
    return out
