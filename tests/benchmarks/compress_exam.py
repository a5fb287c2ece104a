"""What the forms of a model are asked: the windows after the last that it learned."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa

from recsys_lib.evaluate.intervals import weights
from recsys_lib.evaluate.metrics import NEW, f1_of_means
from recsys_lib.evaluate.window import score_batch
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Histories, Scorer
from recsys_lib.model.requests import requests, select
from recsys_lib.settings import EvaluateSettings

ASKED = EvaluateSettings(ks=(10, 20))
SHOWN = ("f1@10", "ndcg@10", f"{NEW}f1@10", f"{NEW}ndcg@10")
DRAWS = 1000


@dataclass(frozen=True)
class Windows:
    """Pickled by a Spark session once: readers of the shop by window, and the sequences."""

    readers: dict[int, Any]
    rows: Any
    task: str
    targets: tuple[str, ...]

    @classmethod
    def of(cls, path: Path) -> Windows:
        return cls(**pickle.loads(path.read_bytes()))

    def table(self, window: int) -> pa.Table:
        batches = list(self.rows.batches((window, window), 0, 1, 0))
        return pa.Table.from_batches(batches).sort_by("user")

    def histories(self, window: int, shop: Catalog) -> Histories:
        types = shop.type_indices(self.targets)
        return requests(self.table(window), self.task, types)[0]  # type: ignore[arg-type]

    def judged(self, window: int, shop: Catalog, scorers: Sequence[Scorer]) -> pa.Table:
        """Sums of every metric by scorer and user (see `evaluate.window`)."""
        types, found = shop.type_indices(self.targets), []
        for batch in self.table(window).combine_chunks().to_batches(max_chunksize=256):
            told, targets, row = requests(batch, self.task, types, shop.items)  # type: ignore[arg-type]
            some = scorers if len(told) else ()
            found += [score_batch(batch, s, told, targets, row, ASKED, True) for s in some]
        return pa.Table.from_batches(found)


def means(tables: Sequence[pa.Table], scorer: str) -> dict[str, np.ndarray]:
    """Mean over windows of each metric of SHOWN: [1 + DRAWS], the sample's own first. Users are
    drawn alike for all scorers and windows, so replicates are paired."""
    found: list[dict[str, np.ndarray]] = []
    for table in tables:
        mine = table.filter(pa.compute.equal(table.column("scorer"), scorer))
        users = np.array([crc32(user.encode()) for user in mine.column("user").to_pylist()])
        drawn = weights(users.astype(np.int64), DRAWS, 7).astype(np.float64)
        sums = {n: drawn.T @ np.asarray(mine.column(n)) for n in mine.column_names if "@" in n}
        counts = {p: drawn.T @ np.asarray(mine.column(f"{p}requests")) for p in ("", NEW)}
        rates = {n: v / counts[NEW if n.startswith(NEW) else ""] for n, v in sums.items()}
        found.append({**rates, **f1_of_means(rates)})
    return {name: np.mean([part[name] for part in found], 0) for name in SHOWN}


def interval(ratio: np.ndarray) -> list[float]:
    """[value, low, high] at 95 %."""
    return [float(ratio[0]), *(float(v) for v in np.quantile(ratio[1:], [0.025, 0.975]))]


def stocked(shop: Catalog, items: int, seed: int = 7) -> Catalog:
    """The shop with items that nobody has bought yet, so that there are so many."""
    more = items - shop.items
    if more <= 0:
        return shop
    like = np.random.default_rng(seed).integers(1, shop.items + 1, more)
    return shop.extended([f"unsold-{n}" for n in range(more)], shop.attributes[like])


def repeated(histories: Histories, count: int) -> Histories:
    """So many, the first ones again where there are fewer."""
    return select(histories, np.arange(count) % len(histories))
