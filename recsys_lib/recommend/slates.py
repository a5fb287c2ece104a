"""Slates for every request of a file, scored where the cores are, written in the file's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from recsys_lib.model.histories import Scorer
from recsys_lib.recommend.histories import Asking

Opened = tuple[Scorer, Asking]


@dataclass(frozen=True)
class Slates:
    """Scores batches; `open_model` is called once in each process that does so."""

    open_model: Callable[[], Opened]
    k: int
    exclude_seen: bool
    batch_rows: int

    def of(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Answers (see histories.ANSWERS) in the order of the requests."""
        opened: Opened | None = None
        for batch in batches:
            for start in range(0, batch.num_rows, self.batch_rows):
                opened = self.open_model() if opened is None else opened
                scorer, asking = opened
                part = pa.Table.from_batches([batch.slice(start, self.batch_rows)])
                ids, histories = asking.histories(part)
                items, scores = scorer.top_k(histories, self.k, exclude_seen=self.exclude_seen)
                yield asking.answers(ids, items, scores)
