"""A made shop on disk in which every item is followed by the next one of a ring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from recsys_lib.adapters.shards import CatalogReader, SequenceRows
from recsys_lib.compress.prune import MagnitudePruner
from recsys_lib.model.histories import Histories, Scorer, Targets
from recsys_lib.model.requests import requests
from recsys_lib.settings import ModelSettings, PruneSettings, TrainSettings
from recsys_lib.train.lesson import Lesson
from tests.model.tiny import Event, sequences_of

RING = 12
MODEL = ModelSettings(
    embedding_size=16,
    blocks=1,
    feed_forward_size=16,
    copy_size=4,
    recent_events=8,
    copy_items=8,
    dropout=0.0,
)
TRAIN = TrainSettings(
    ranks=1,
    epochs=12,
    min_steps=1,
    increment_epochs=20,
    increment_steps=1,
    batch_size=32,
    learning_rate=2e-2,
    increment_learning_rate=1e-2,
    increment_rate_steps=0,
)


def walks(window: int, ring: int, count: int = 40) -> list[list[Event]]:
    """Sessions of four items, each the next of the ring, all in one window."""
    random = np.random.default_rng(window)
    starts = random.integers(0, ring, count)
    return [[(int(s + i) % ring + 1, window + i / 8) for i in range(4)] for s in starts]


@dataclass(frozen=True)
class Shop:
    """Tables `sequences`, `vocabulary`, `item_features` and `item_counts` under `root`."""

    root: Path

    def land(
        self, window: int, rows: list[list[Event]], items: int, files: int = 1, worth: float = 0.0
    ) -> None:
        """One more window: its sequences in `files` files, `items` known from now on; each event is
        worth as much."""
        table = sequences_of(*rows, worth=worth).set_column(
            0, "window", [pa.array([window] * len(rows), pa.int32())]
        )
        share = -(-len(rows) // files)
        for start in range(0, len(rows), share):
            write_deltalake(
                self.path("sequences"),
                table.slice(start, share),
                mode="append",
                partition_by=["window"],
            )
        known = self._known()
        words = [("type", "buy", 1)] if not known else []
        words += [("item", f"i{n}", n) for n in range(known + 1, items + 1)]
        words += [("item.kind", f"k{n}", n) for n in (1, 2)] if not known else []
        kinds, ids, index = zip(*words, strict=True) if words else ((), (), ())
        self._append(
            "vocabulary",
            {
                "kind": pa.array(kinds, pa.string()),
                "id": pa.array(ids, pa.string()),
                "index": pa.array(index, pa.int32()),
            },
            window,
        )
        self.tell(window, [(n, n % 2 + 1) for n in range(known + 1, items + 1)])
        counts = np.bincount([item for row in rows for item, _ in row], minlength=items + 1)
        sold = np.flatnonzero(counts)
        numbers = {"events": counts[sold], "users": counts[sold]}
        columns = {name: pa.array(values, pa.int64()) for name, values in numbers.items()}
        self._append("item_counts", {"index": pa.array(sold, pa.int32()), **columns}, window)

    def tell(self, window: int, kinds: list[tuple[int, int]]) -> None:
        """Rows of `item_features`: (item, kind)."""
        index = pa.array([item for item, _ in kinds], pa.int32())
        attributes = pa.array([[kind] for _, kind in kinds], pa.list_(pa.int32()))
        self._append("item_features", {"index": index, "attributes": attributes}, window)

    def path(self, table: str) -> str:
        return str(self.root / table)

    def rows(self, seed: int = 7, batch_rows: int = 16) -> SequenceRows:
        return SequenceRows(
            self.path("sequences"), DeltaTable(self.path("sequences")).version(), seed, batch_rows
        )

    def reader(self, before: int, first_stats: int = 0) -> CatalogReader:
        names = ("vocabulary", "item_features", "item_counts")
        tables = {name: DeltaTable(self.path(name)).version() for name in names}
        return CatalogReader(str(self.root), tables, before, first_stats, ("kind",), ())

    def lesson(self, windows: tuple[int, int], folder: Path, **changes: Any) -> Lesson:
        made = Lesson(
            windows=windows,
            rehearse=None,
            rows=self.rows(),
            read_catalog=self.reader(windows[1] + 1),
            parent=None,
            folder=str(folder),
            task="next_item",
            targets=("buy",),
            model=MODEL,
            train=TRAIN,
            prune=PruneSettings(enabled=False),
            pruner=MagnitudePruner,
            seed=7,
            lineage={"mapping": "ring"},
        )
        return replace(made, **changes)

    def _known(self) -> int:
        if not DeltaTable.is_deltatable(self.path("vocabulary")):
            return 0
        words = DeltaTable(self.path("vocabulary")).to_pyarrow_table()
        return words.column("kind").to_pylist().count("item")

    def _append(self, table: str, columns: dict[str, pa.Array], window: int) -> None:
        count = len(next(iter(columns.values())))
        rows = pa.table({**columns, "window": pa.array([window] * count, pa.int32())})
        write_deltalake(self.path(table), rows, mode="append")


def ring_shop(root: Path, files: int = 1) -> Shop:
    """Windows 0..2 with the first twelve items, window 3 with two more in the ring, and in
    window 4 one session of four items."""
    shop = Shop(root)
    for window in range(3):
        shop.land(window, walks(window, RING), RING, files)
    shop.land(3, walks(3, RING + 2), RING + 2, files)
    shop.land(4, [[(item, 4.0 + item / 8) for item in range(1, 5)]], RING + 2)
    return shop


def exam(ring: int, count: int = 60) -> tuple[Histories, Targets]:
    """Sessions that nobody has learned from."""
    histories, targets, _ = requests(sequences_of(*walks(99, ring, count)), "next_item")
    return histories, targets


def hit_rate(scorer: Scorer, ring: int) -> float:
    """Share of the exam's requests whose first answer is right."""
    histories, targets = exam(ring)
    items, _ = scorer.top_k(histories, 1)
    return float((items[:, 0] == targets.items).mean())
