"""How models see the lake: pinned readers for ranks and executors, and the exam's scorers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.context import Context
from recsys_lib.adapters.folders import is_remote
from recsys_lib.adapters.places import deliver, fetch
from recsys_lib.adapters.shards import CatalogReader, SequenceRows
from recsys_lib.catalog.history import known_by
from recsys_lib.evaluate.anomalies import strange_windows
from recsys_lib.evaluate.slates import Shelf
from recsys_lib.features.recipe import Known
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Scorer
from recsys_lib.model.requests import requests
from recsys_lib.settings import EvaluateSettings, Settings
from recsys_lib.tables import closed_window
from recsys_lib.types import ModelVersion

TABLES = ("vocabulary", "item_features", "item_counts", "item_returns", "neighbours", "plans")


def as_known(context: Context) -> Known:
    """The catalogue as it was known when a window ended, whatever has been said since."""
    axis = cache(context.axis)
    meanings = {"items": context.mapping.items, "users": context.mapping.users}

    def at(table: str, ids: DataFrame, window: int) -> DataFrame:
        meaning, end = meanings[table], None
        assert meaning is not None
        told = axis()
        if told is not None and told.start is not None:
            end = told.start + timedelta(days=told.days * (window + 1))
        return known_by(context.lake, table, meaning, ids, window, end)

    return at


def shop_tables(context: Context) -> dict[str, int]:
    """Versions of the tables that `catalog_reader` reads, as they are now."""
    return {name: context.lake.version(name) for name in TABLES if context.lake.exists(name)}


def last_window(context: Context) -> int | None:
    """The last one that was prepared to its end; None where none was."""
    closed = closed_window(context.lake)
    if closed is None or not context.lake.exists("sequences"):
        return None
    rows = context.lake.read("sequences").where(F.col("window") <= closed)
    found = rows.agg(F.max("window")).collect()[0][0]
    return None if found is None else int(found)


def catalog_reader(
    context: Context,
    before: int,
    windows_back: int,
    pinned: dict[str, int] | None = None,
    settings: Settings | None = None,
) -> CatalogReader:
    """The shop as known when window `before` began; statistics of `windows_back` windows too.

    `pinned` names versions of tables; without it they are read as they are now. `settings` are
    those of the run, or of the version that is trained again.
    """
    tables = shop_tables(context) if pinned is None else pinned
    mapping, features = context.mapping, (settings or context.settings).features
    return CatalogReader(
        root=context.lake.root,
        tables={name: version for name, version in tables.items() if name != "sequences"},
        before=before,
        first_stats=before - windows_back,
        item_attributes=tuple(mapping.items.attributes) if mapping.items else (),
        user_attributes=tuple(mapping.users.attributes) if mapping.users else (),
        # Counts of 32 windows back weigh less than a thousandth.
        looks_back=features.count_windows + 32,
        planned=len(mapping.plans.features) if mapping.plans else 0,
        neighbours=features.neighbours,
        neighbour_decay=features.neighbour_decay,
    )


def sequence_rows(
    context: Context, version: int, settings: Settings, without: Sequence[int] = ()
) -> SequenceRows:
    """The sequences as they were at `version`, but of some windows, for the ranks to read."""
    path = context.lake.path("sequences")
    return SequenceRows(path, version, settings.run.seed, without=tuple(without))


def model_folder(context: Context, version: ModelVersion) -> str:
    """The version's folder as ranks and executors can `fetch` it, wherever they run."""
    if not is_remote(context.out):
        return context.tracking.local_path(version)
    shared = context.out / "models" / f"{version.name}-{version.version}"
    if not shared.exists():
        deliver(context.tracking.local_path(version), str(shared))
    return str(shared)


def strange_increments(context: Context) -> dict[int, list[str]]:
    """Window -> what is wrong with it, as it was prepared (see `evaluate.anomalies`)."""
    return strange_windows(context.lake.small("vitals"), context.settings.gate)


@dataclass(frozen=True)
class Exam:
    """Everybody who answers for one window. Pickled to the executors, opened there.

    models  scorer name -> folder of the bundle. All of them see today's items, counts and
            histories, so that only their weights differ
    stale   folder of the first version, which answers as on the day it was made
    """

    reader: CatalogReader
    models: dict[str, str]
    stale: str
    task: str
    targets: tuple[str, ...]
    settings: EvaluateSettings
    decay: float

    def scorers(self) -> Sequence[Scorer]:
        """Baselines and models, with the shop as it was when the window began."""
        from recsys_lib.evaluate.baselines import PersonalFrequency, Popularity, RecencyFrequency
        from recsys_lib.model.bundle import Bundle
        from recsys_lib.model.frozen import FrozenScorer
        from recsys_lib.model.scorer import ModelScorer

        _, recent = self._opened()
        personal = PersonalFrequency(recent)
        recency = RecencyFrequency(recent, self.decay)
        stale = FrozenScorer(ModelScorer(Bundle.load(fetch(self.stale))), "stale")
        return [*self.opened_models(), stale, Popularity(recent), personal, recency]

    def opened_models(self) -> Sequence[Scorer]:
        """Models alone."""
        from recsys_lib.model.opening import open_scorer

        shop, _ = self._opened()
        return [open_scorer(fetch(folder), shop, name) for name, folder in self.models.items()]

    def shelf(self) -> Shelf:
        """What slates are described by: recent buyers, and the category named in the settings."""
        (shop, recent), names = self._opened(), self.reader.item_attributes
        column = names.index(self.settings.category) if self.settings.category in names else 0
        categories = shop.attributes[:, column] if names else np.zeros(shop.items + 1, np.int32)
        return Shelf(recent, categories)

    def requests(self, batch: pa.RecordBatch) -> Any:
        """The window's questions and answers."""
        shop, _ = self._opened()
        types = shop.type_indices(self.targets)
        return requests(batch, self.task, types, shop.items)  # type: ignore[arg-type]

    def _opened(self) -> tuple[Catalog, NDArray[np.float64]]:
        """The shop and its items' recent users: read once in each process of an executor."""
        if not _OPENED or _OPENED[-1][0] != self.reader:
            shop = self.reader()
            recent = self.reader.recent_users(shop.items, self.settings.popularity_windows)
            _OPENED[:] = [(self.reader, (shop, recent))]
        return _OPENED[-1][1]


_OPENED: list[tuple[CatalogReader, tuple[Catalog, NDArray[np.float64]]]] = []
