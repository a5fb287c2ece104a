"""Pinned Delta tables read without a JVM, from inside a rank or an executor (delta-rs, Arrow)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import reduce
from operator import or_
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from numpy.typing import NDArray

from recsys_lib.adapters.folders import file_system
from recsys_lib.adapters.pins import Pins
from recsys_lib.errors import LakeError
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.neighbours import Neighbours, merged
from recsys_lib.model.plans import Plans
from recsys_lib.model.stats import ItemReturns, ItemStats, item_stats
from recsys_lib.types import FOLDS, Exemplars, Increment

RETURN_WINDOWS = 104
"""How far back the statistics of returns look: what is read does not grow with the log."""


@dataclass(frozen=True)
class SequenceRows:
    """Rows of the `sequences` table at one version. Picklable; opened where it is read."""

    path: str
    version: int
    seed: int
    batch_rows: int = 256
    without: tuple[int, ...] = ()

    def batches(
        self, windows: tuple[int, int], rank: int, ranks: int, epoch: int
    ) -> Iterator[pa.RecordBatch]:
        """This rank's rows of windows first..last, but `without` some, in an order fixed by seed
        and epoch.

        A rank reads whole files of its own where every window has enough; else every ranks-th
        batch.
        """
        files = _files(self.path, self.version, windows, self.without)
        random = np.random.default_rng([self.seed, epoch])
        told = Counter(_partition(file.path, "window") for file in files)
        whole = all(count % ranks == 0 for count in told.values())
        own = files[rank::ranks] if whole else files
        own = [own[i] for i in random.permutation(len(own))]
        number = 0
        for file in own:
            for batch in file.to_batches(batch_size=self.batch_rows):
                number += 1
                if len(batch) and (whole or number % ranks == rank):
                    yield batch.take(pa.array(random.permutation(len(batch))))

    def count(self, windows: tuple[int, int], enough: int) -> int:
        """Rows of these windows, counted until there are `enough`; 0 where nobody came."""
        rows = 0
        for file in _files_of(self.path, self.version, windows, self.without):
            rows += file.count_rows()
            if rows >= enough:
                break
        return rows

    def exemplars(
        self, windows: tuple[int, int], rank: int, ranks: int, epoch: int, choice: Exemplars
    ) -> Iterator[pa.RecordBatch]:
        """At most `choice.rows` of this rank's old rows, other ones in every lesson and epoch.

        Stratified: they come from several increments, recent ones more often, and no user gives
        more than one. Only the files that are drawn are read, however long the history, and their
        rows come mixed.
        """
        files = _files_of(self.path, self.version, windows, self.without)
        if not files:
            return
        labels = [_partition(file.path, "window") for file in files]
        weight = _weights(labels, windows, choice.fading)
        if len(files) >= ranks:
            files, weight = files[rank::ranks], weight[rank::ranks]
        random = np.random.default_rng([self.seed, windows[1] % 2**32, epoch, rank])
        # Keys that draw without replacement by weight (Efraimidis and Spirakis 2006).
        drawn = np.argsort(random.exponential(size=len(files)) / weight)[: choice.strata]
        quotas = np.ceil(choice.rows * weight[drawn] / weight[drawn].sum()).astype(np.int64)
        users: pa.Array = pa.array([], pa.string())
        parts = []
        for place, quota in zip(drawn, quotas, strict=True):
            names = files[place].to_table(columns=["user"]).column("user").cast(pa.string())
            free = np.flatnonzero(~np.asarray(pc.is_in(names, users)))
            chosen = random.permutation(free)[: min(quota, choice.rows - len(users))]
            users = pa.concat_arrays([users, *names.take(pa.array(chosen)).chunks])
            parts.append(self._chosen(files[place], np.sort(chosen)))
        yield from _by_turns(parts, random)

    def _chosen(self, file: ds.Fragment, rows: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """These rows, in their order."""
        start = 0
        for batch in file.to_batches(batch_size=self.batch_rows, batch_readahead=1):
            ends = np.searchsorted(rows, [start, start + len(batch)])
            mine = rows[slice(*ends)] - start
            start += len(batch)
            if len(mine):
                yield batch.take(pa.array(mine))


def _weights(labels: list[int], windows: tuple[int, int], fading: float) -> NDArray[np.float64]:
    """How often each file is rehearsed, by the window its increment is named by.

    An increment counts for every window since the one before it, each `fading` times as often as
    the next; its files share that.
    """
    known = sorted(set(labels))
    before = dict(zip(known, [windows[0] - 1, *known[:-1]], strict=True))
    ages = {label: windows[1] - np.arange(before[label] + 1, label + 1) for label in known}
    told = {label: (fading ** ages[label].astype(np.float64)).sum() for label in known}
    return np.array([told[label] / labels.count(label) for label in labels])


def _by_turns(
    parts: list[Iterator[pa.RecordBatch]], random: np.random.Generator
) -> Iterator[pa.RecordBatch]:
    """All batches of all parts, whose turn it is by chance; rows of a batch in a random order."""
    while parts:
        place = int(random.integers(len(parts)))
        batch = next(parts[place], None)
        if batch is None:
            parts.pop(place)
        else:
            yield batch.take(pa.array(random.permutation(len(batch))))


class _Planned(NamedTuple):
    """Rows of the plans: window, item index int64 [R], what is planned float32 [R, planned]."""

    window: NDArray[np.int64]
    item: NDArray[np.int64]
    values: NDArray[np.float32]

    def plans(self, items: int) -> Plans:
        return Plans.of(self.window, self.item, self.values.max(1), items)


@dataclass(frozen=True)
class CatalogReader:
    """Reads the shop as it was known when window `before` began.

    Statistics cover the windows first_stats..before, made of the counts of `looks_back` windows:
    as many for one window as for all, so that a lesson and its exam are told the same. `tables`
    holds the pinned version of each.
    """

    root: str
    tables: dict[str, int]
    before: int
    first_stats: int
    item_attributes: tuple[str, ...]
    user_attributes: tuple[str, ...]
    looks_back: int = 84
    planned: int = 0
    neighbours: int = 32
    neighbour_decay: float = 1.0

    def __call__(self) -> Catalog:
        # Users are most of it, and nobody asks for their ids here.
        known = (pc.field("window") < self.before) & (pc.field("kind") != "user")
        words = self._table("vocabulary", known)
        kinds = words.column("kind").to_numpy(zero_copy_only=False)
        items = words.filter(pa.array(kinds == "item"))
        index = items.column("index").to_numpy()
        count = int(index.max(initial=0))
        ids = np.full(count + 1, "", dtype=object)
        ids[index] = items.column("id").to_numpy(zero_copy_only=False)
        told = self._planned(ids) if self.planned and "plans" in self.tables else None
        plans = None if told is None else told.plans(count)
        attributes = self._attributes(count)
        stats = _with_plans(self._stats(count, plans), told, self.planned)
        return Catalog(
            ids=ids.astype(np.str_),
            attributes=attributes,
            sizes=tuple(_size(words, kinds, f"item.{name}") for name in self.item_attributes),
            profile=tuple(_size(words, kinds, f"user.{name}") for name in self.user_attributes),
            types=_names(words.filter(pa.array(kinds == "type"))),
            stats=stats.with_kinds(attributes),
            neighbours=self._neighbours(count),
            plans=plans,
        )

    def item_ids(self) -> pa.ChunkedArray:
        """Ids of the items that are known."""
        known = (pc.field("window") < self.before) & (pc.field("kind") == "item")
        return self._table("vocabulary", known).column("id")

    def recent_users(self, items: int, windows: int) -> np.ndarray:
        """Users of each item over the last `windows` windows: float64 [items + 1]."""
        since = self.before - windows
        span = (pc.field("window") < self.before) & (pc.field("window") >= since)
        rows = self._table("item_counts", span)
        index = rows.column("index").to_numpy().astype(np.int64)
        users = rows.column("users").to_numpy().astype(np.float64)
        inside = index <= items
        return np.bincount(index[inside], weights=users[inside], minlength=items + 1)

    def _attributes(self, items: int) -> np.ndarray:
        """What was told last of each item: int32 [items + 1, attributes]; 0 unknown."""
        out = np.zeros((items + 1, len(self.item_attributes)), dtype=np.int32)
        if not self.item_attributes:
            return out
        rows = self._table("item_features", pc.field("window") < self.before)
        rows = _latest(rows, ("index",))
        flat = rows.column("attributes").combine_chunks().flatten().fill_null(0)
        out[rows.column("index").to_numpy()] = np.asarray(flat, np.int32).reshape(-1, out.shape[1])
        return out

    def _stats(self, items: int, plans: Plans | None) -> ItemStats:
        since = self.before - self.looks_back
        span = (pc.field("window") < self.before) & (pc.field("window") >= since)
        counts = dataset(f"{self.root}/item_counts", self.tables.get("item_counts"))
        rows = counts.to_table(filter=span)
        return item_stats(
            window=rows.column("window").to_numpy().astype(np.int64),
            index=rows.column("index").to_numpy().astype(np.int64),
            users=rows.column("users").to_numpy().astype(np.float64),
            items=items,
            first=self.first_stats,
            last=self.before,
            returns=self._returns(),
            plans=plans,
            opening=not counts.count_rows(filter=pc.field("window") < since),
        )

    def _returns(self) -> ItemReturns | None:
        if "item_returns" not in self.tables:
            return None
        since, window = self.before - RETURN_WINDOWS, pc.field("window")
        rows = self._table("item_returns", (window < self.before) & (window >= since))
        told = {f.name: rows.column(f.name).to_numpy() for f in fields(ItemReturns)}
        whole = {name: told[name].astype(np.int64) for name in ("window", "index")}
        return ItemReturns(**{n: v.astype(np.float64) for n, v in told.items()} | whole)

    def _planned(self, ids: np.ndarray) -> _Planned:
        """What was planned of known items since counts are looked at, and is for the window that
        begins: plans are known ahead."""
        since = min(self.first_stats, self.before - self.looks_back)
        window = pc.field("window")
        rows = self._table("plans", (window >= since) & (window <= self.before))
        index = pc.index_in(rows.column("item"), pa.array(ids[1:], pa.string()))
        rows = rows.append_column("index", index).filter(index.is_valid())
        flat = rows.column("values").combine_chunks().flatten()
        return _Planned(
            rows.column("window").to_numpy().astype(np.int64),
            rows.column("index").to_numpy().astype(np.int64) + 1,
            np.asarray(flat, np.float32).reshape(-1, self.planned),
        )

    def _neighbours(self, items: int) -> Neighbours | None:
        """What was told last of each (item, fold), since the last base (see
        `features.neighbours`)."""
        if "neighbours" not in self.tables:
            return None
        rows = dataset(f"{self.root}/neighbours", self.tables["neighbours"])
        known = pc.field("window") < self.before
        bases = [_partition(file.path, "base") for file in rows.get_fragments(filter=known)]
        if not bases:
            return None
        known = known & (pc.field("base") == max(bases)) & (pc.field("item") <= items)
        told = rows.to_table(["item", "fold", "near", "mass", "window"], filter=known)
        told = _latest(told, ("item", "fold"))
        near = told.column("near").combine_chunks()
        pairs = near.flatten()
        age = self.before - 1 - told.column("window").to_numpy()
        aged = np.power(self.neighbour_decay, age)
        lengths = near.value_lengths().to_numpy(zero_copy_only=False)
        return merged(
            item=np.repeat(told.column("item").to_numpy(), lengths),
            fold=np.repeat(told.column("fold").to_numpy(), lengths),
            other=pairs.field("item").to_numpy(),
            weight=pairs.field("weight").to_numpy() * np.repeat(aged, lengths),
            mass=_mass(told, aged, items),
            kept=self.neighbours,
        )

    def _table(self, name: str, where: pc.Expression) -> pa.Table:
        return dataset(f"{self.root}/{name}", self.tables.get(name)).to_table(filter=where)


def _with_plans(stats: ItemStats, told: _Planned | None, planned: int) -> ItemStats:
    """Statistics with the plans of their own windows, which are known when these begin."""
    if not planned:
        return stats
    values = np.zeros((*stats.values.shape[:2], planned), np.float32)
    if told is not None:
        own = told.window >= stats.first
        values[told.window[own] - stats.first, told.item[own]] = told.values[own]
    return ItemStats(stats.first, np.concatenate([stats.values, values], 2))


def _latest(rows: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """Of each key the row of its latest window."""
    order = np.lexsort([rows.column(name).to_numpy() for name in ("window", *reversed(keys))])
    told = np.stack([rows.column(name).to_numpy()[order] for name in keys])
    last = np.append((told[:, 1:] != told[:, :-1]).any(0), True) if len(order) else order > 0
    return rows.take(pa.array(order[last]))


@dataclass(frozen=True)
class ItemShelf:
    """The shop's `items` at one version. Picklable; read where slates are made."""

    path: str
    version: int

    def tells(self) -> bool:
        """Whether anything says what can be had."""
        return bool(self._words(dataset(self.path, self.version)))

    def gone(self) -> NDArray[np.str_]:
        """Ids of items that are off the shelf or sold out; silence means that they can be had."""
        items = dataset(self.path, self.version)
        words = self._words(items)
        if not words:
            return np.empty(0, np.str_)
        rows = items.to_table(["id"], filter=reduce(or_, words))
        return rows.column("id").to_numpy(zero_copy_only=False).astype(np.str_)

    def _words(self, items: ds.Dataset) -> list[pc.Expression]:
        said = {"available": ~pc.field("available"), "stock": pc.field("stock") <= 0}
        return [words for name, words in said.items() if name in items.schema.names]


def _mass(rows: pa.Table, aged: np.ndarray, items: int) -> np.ndarray:
    """float64 [FOLDS, items + 1]: what all pairs of an item weigh, by fold."""
    out = np.zeros((FOLDS, items + 1))
    place = rows.column("fold").to_numpy(), rows.column("item").to_numpy()
    out[place] = rows.column("mass").to_numpy() * aged
    return out


def dataset(path: str, version: int | None) -> ds.Dataset:
    """The table at one version (null: as it is now); by its pin where the log has forgotten it."""
    try:
        return DeltaTable(path, version=version).to_pyarrow_dataset()
    except DeltaError:
        root, _, table = path.rpartition("/")
        pinned = None if version is None else Pins(root).files(Increment(table, 0, version + 1))
        if pinned is None:
            raise
    now = DeltaTable(path).to_pyarrow_dataset()
    fs, inner = file_system(path)
    return ds.dataset(
        [f"{inner}/{file.path}" for file in pinned],
        schema=now.schema,
        format="parquet",
        filesystem=fs,
        partitioning="hive",
        partition_base_dir=inner,
    )


def _files(
    path: str, version: int, windows: tuple[int, int], without: tuple[int, ...]
) -> list[ds.Fragment]:
    files = _files_of(path, version, windows, without)
    if not files:
        raise LakeError(
            f"{path} must hold rows of windows {windows[0]} to {windows[1]} at version {version}, "
            "got none; ingest these windows first"
        )
    return files


def _files_of(
    path: str, version: int, windows: tuple[int, int], without: tuple[int, ...]
) -> list[ds.Fragment]:
    window = pc.field("window")
    inside = (window >= windows[0]) & (window <= windows[1])
    if without:
        inside = inside & ~window.isin(without)
    files = list(dataset(path, version).get_fragments(filter=inside))
    # Spark names files part-NNNNN-<random>: the number is the same in every run, the rest is not.
    return sorted(files, key=lambda file: (file.path.rsplit("/", 1)[0], _part(file.path)))


def _partition(path: str, column: str) -> int:
    """Its value for a file of a table that is partitioned by it."""
    found = re.search(rf"(?:^|/){column}=(-?\d+)/", path)
    return int(found.group(1)) if found else 0


def _part(path: str) -> str:
    return "-".join(path.rsplit("/", 1)[-1].split("-")[:2])


def _size(words: pa.Table, kinds: np.ndarray, kind: str) -> int:
    return int(words.filter(pa.array(kinds == kind)).column("index").to_numpy().max(initial=0))


def _names(words: pa.Table) -> tuple[str, ...]:
    pairs = sorted(
        zip(words.column("index").to_pylist(), words.column("id").to_pylist(), strict=True)
    )
    return ("", *(name for _, name in pairs))
