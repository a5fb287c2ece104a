"""A rank's endless stream of training batches, read from its own share of the sequence files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys_lib.errors import RanksError
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Histories, Targets
from recsys_lib.model.inputs import Near, inputs
from recsys_lib.model.ragged import pad_right
from recsys_lib.model.requests import Task, had_before, in_parts, requests, select, select_targets
from recsys_lib.settings import ModelSettings, TrainSettings
from recsys_lib.train.augment import augmented

PATIENCE = 100
"""Epochs in a row that may be without an example."""
Batch = dict[str, NDArray]
Told = tuple[Histories, Targets]
Examples = Callable[[pa.RecordBatch, np.random.Generator], Told]
Reader = Callable[[int], Iterator[pa.RecordBatch]]
"""Given an epoch number, the rank's rows, in an order fixed by seed and epoch."""


@dataclass(frozen=True)
class Feed:
    """Makes batches. Everything random comes from `seed`, the rank and the epoch.

    Without `affinity` the kinds of items are not compared: a network that does not read it.

    What is drawn for a whole batch comes from `common`, so that all ranks look up the same rows of
    the tables. Only decisions before `cut` on the window axis count; with `later`, only those from
    it on.
    """

    catalog: Catalog
    task: Task
    targets: tuple[str, ...]
    model: ModelSettings
    train: TrainSettings
    seed: int
    common: int = 0
    affinity: bool = True
    cut: float = math.inf
    later: bool = False

    def count(self, reader: Reader) -> tuple[int, int, int]:
        """Examples in one epoch of this rank's share, their targets, and those of them that the
        user had before."""
        found = np.zeros(3, np.int64)
        for rows in self._bounded(reader(0)):
            histories, targets = self.examples(rows)
            repeated = had_before(histories, targets).sum()
            found += len(histories), len(targets.items), repeated
        examples, followed, known = found.tolist()
        return examples, followed, known

    def has_some(self, reader: Reader) -> bool:
        """Whether the first epoch holds an example."""
        return any(len(self.examples(rows)[0]) for rows in self._bounded(reader(0)))

    def batches(
        self, new: Reader, old: Reader | None, size: int, share: float, start: int = 0
    ) -> Iterator[Batch]:
        """Batches of exactly `size` examples without end, `share` of each rehearsed from `old`.
        The first `start` of them are passed over: read, but not made."""
        rehearsed = min(size - 1, round(size * share)) if old is not None else 0
        fresh = self._stream(new, size - rehearsed, lambda rows, _: self.examples(rows))
        earlier = self._stream(old, rehearsed, self.exemplar) if old and rehearsed else None
        for number, part in enumerate(fresh):
            parts = [part] if earlier is None else [part, next(earlier)]
            if number < start:
                continue
            # By its number, so that it is the same batch however often the lesson was begun.
            own, shared = (np.random.default_rng([seed, number]) for seed in self._seeds)
            yield self._batch(*_joined(parts), own, size - rehearsed, shared)

    @property
    def _seeds(self) -> tuple[int, int]:
        return self.seed, self.common

    def _stream(self, reader: Reader, size: int, examples: Examples) -> Iterator[Told]:
        held: list[tuple[Histories, Targets]] = []
        epoch = lean = 0
        while True:
            random = np.random.default_rng([self.seed, epoch])
            found = 0
            for rows in self._bounded(reader(epoch)):
                histories, targets = examples(rows, random)
                found += len(histories)
                order = random.permutation(len(histories))
                for start in range(0, len(order), size):
                    chosen = order[start : start + size]
                    held.append((select(histories, chosen), select_targets(targets, chosen)))
                    if sum(len(h) for h, _ in held) >= size:
                        whole, rest = _split(_joined(held), size)
                        held = [rest] if len(rest[0]) else []
                        yield whole
            # A later draw of a few old rows may be without one; the next one is another.
            lean = 0 if found else lean + 1
            if lean > (PATIENCE if epoch else 0):
                raise RanksError(
                    "the rows to learn from must hold an example, got none; learn more windows"
                )
            epoch += 1

    def _bounded(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """So that long histories, which are asked again and again, fit into memory."""
        return (part for batch in batches for part in in_parts(batch, self.task))

    def examples(self, rows: pa.RecordBatch) -> tuple[Histories, Targets]:
        """Requests of these rows with their targets, as the task and target types say.

        What was decided before the catalogue's statistics begin is left out: its popularity and
        its plans would be those of a later window.
        """
        return self._told(rows)[:2]

    def _told(self, rows: pa.RecordBatch) -> tuple[Histories, Targets, NDArray[np.int64]]:
        """And the row that each comes from."""
        types = self.catalog.type_indices(self.targets)
        histories, targets, row = requests(rows, self.task, types, learned=True)
        due = _due(histories, targets)
        wanted = (due >= self.cut) == self.later
        wanted &= ~(due < self.catalog.stats.first)
        if wanted.all():
            return histories, targets, row
        kept = np.flatnonzero(wanted)
        return select(histories, kept), select_targets(targets, kept), row[kept]

    def exemplar(
        self, rows: pa.RecordBatch, random: np.random.Generator
    ) -> tuple[Histories, Targets]:
        """One of the requests of each row, drawn at random: users and windows count alike,
        however many decisions a row holds."""
        histories, targets, row = self._told(rows)
        order = random.permutation(len(row))
        kept = np.sort(order[np.unique(row[order], return_index=True)[1]])
        return select(histories, kept), select_targets(targets, kept)

    def _batch(
        self,
        histories: Histories,
        targets: Targets,
        random: np.random.Generator,
        new: int | None = None,
        common: np.random.Generator | None = None,
    ) -> Batch:
        """`new` of the examples, which come first, are new ones; None: all."""
        new = len(histories) if new is None else new
        x = inputs(
            histories,
            self.model.recent_events,
            self.model.copy_items,
            self.model.decay,
            self._near,
            self.catalog.attributes if self.affinity else None,
            self.catalog.plans,
        ).as_dict()
        if not self.later:
            x = augmented(x, self.train, random)
        lengths = np.diff(targets.offsets)
        width = min(self.train.max_targets, 1 << int(lengths.max() - 1).bit_length())
        order = _shuffle(targets, random)
        padded = pad_right(targets.items[order], targets.offsets, width, 0)
        weight = pad_right(self._weights(targets)[order], targets.offsets, width, 0.0)
        weight *= self._counts_as(np.minimum(lengths, width))[:, None]
        negatives, log_q = self._negatives(common or random)
        items = {
            "recent_items": x["recent_items"],
            "copy_items": x["copy_items"],
            "near_items": x["near_items"],
            "targets": padded.astype(np.int32),
            "negatives": negatives,
        }
        return {
            **x,
            **_pooled(items),
            "stats_row": self.catalog.stats.rows(_due(histories, targets)),
            "target_weight": weight.astype(np.float32),
            "target_value": _log_value(targets),
            "target_copy": _places(padded, x["copy_items"]),
            "target_near": _places(padded, x["near_items"]),
            "negatives_log_q": log_q,
            "rehearsed": (np.arange(len(histories)) >= new).astype(np.float32),
        }

    @property
    def _near(self) -> Near | None:
        known = self.catalog.neighbours
        return None if known is None else Near(known, self.model.near_events, self.model.near_items)

    def _counts_as(self, targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """What each example of a batch counts, by how many targets it has: [B], 1 on average."""
        count = targets**self.train.basket_weight
        return np.asarray(count / count.mean())

    def _weights(self, targets: Targets) -> NDArray[np.float32]:
        """What each target counts by its type: float32 [T]."""
        told = self.train.type_weights
        by_type = np.array([told.get(name, 1.0) for name in self.catalog.types], np.float32)
        if targets.types is None or not told:
            return np.ones(len(targets.items), np.float32)
        return by_type[np.minimum(targets.types, len(by_type) - 1)]

    def _negatives(self, random: np.random.Generator) -> tuple[NDArray, NDArray]:
        items, draws = self.catalog.items, self.train.negatives
        if items <= self.train.full_softmax_items:
            every = np.arange(1, items + 1, dtype=np.int32)
            return every, np.zeros(items, np.float32)
        q, total = self._chances
        drawn = total.searchsorted(random.random(draws), side="right")
        return (drawn + 1).astype(np.int32), np.log(draws * q[drawn]).astype(np.float32)

    @cached_property
    def _chances(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of each item to be drawn, and summed up: made once, as there may be millions."""
        items = self.catalog.items
        share = np.exp(self.catalog.stats.values[-1, 1:, 0].astype(np.float64)) ** 0.75
        q = 0.5 * share / share.sum() + 0.5 / items
        total = q.cumsum()
        return q, total / total[-1]


def _due(histories: Histories, targets: Targets) -> NDArray[np.float32]:
    """When each decision was due, on the window axis: [B]. A user who comes back is told what is
    known then, not what was when the last event came."""
    return histories.now if targets.at is None else targets.at[targets.offsets[:-1]]


def _log_value(targets: Targets) -> NDArray[np.float32]:
    """log(1 + what the targets of an example are worth together): [B]."""
    size = len(targets.offsets) - 1
    if targets.values is None:
        return np.zeros(size, np.float32)
    row = np.repeat(np.arange(size), np.diff(targets.offsets))
    total = np.bincount(row, weights=np.fmax(targets.values, 0), minlength=size)
    return np.log1p(total).astype(np.float32)


def _shuffle(targets: Targets, random: np.random.Generator) -> NDArray[np.int64]:
    """A random order within each row, so that a cut at max_targets is a fair sample."""
    rows = np.repeat(np.arange(len(targets.offsets) - 1), np.diff(targets.offsets))
    return np.lexsort((random.random(len(rows)), rows))


def _places(targets: NDArray[np.int32], copies: NDArray[np.int32]) -> NDArray[np.int32]:
    """Position of each target among its row's copy_items; -1 where it is not there."""
    rows = np.arange(len(targets), dtype=np.int64)[:, None] * np.int64(2**31)
    keys = (rows + copies).reshape(-1)
    order = np.argsort(keys, kind="stable")
    wanted = rows + targets
    found = np.searchsorted(keys[order], wanted)
    found = np.minimum(found, len(keys) - 1)
    place = order[found]
    hit = (keys[place] == wanted) & (targets > 0)
    return np.where(hit, place % copies.shape[1], -1).astype(np.int32)


def _pooled(items: Batch) -> Batch:
    """Each item once in `pool`, item 0 first; the arrays name items by their place in it."""
    flat = np.concatenate([[0], *(array.reshape(-1) for array in items.values())])
    pool, places = np.unique(flat, return_inverse=True)
    ends = np.cumsum([1, *(array.size for array in items.values())])
    parts = np.split(places.astype(np.int32), ends)[1:-1]
    named = zip(items.items(), parts, strict=True)
    return {"pool": pool.astype(np.int32), **{k: p.reshape(v.shape) for (k, v), p in named}}


def _joined(parts: list[tuple[Histories, Targets]]) -> tuple[Histories, Targets]:
    if len(parts) == 1:
        return parts[0]
    histories = [h for h, _ in parts]
    targets = [t for _, t in parts]
    return (
        Histories(
            offsets=_offsets([h.offsets for h in histories]),
            items=np.concatenate([h.items for h in histories]),
            types=np.concatenate([h.types for h in histories]),
            at=np.concatenate([h.at for h in histories]),
            now=np.concatenate([h.now for h in histories]),
            profile=np.concatenate([h.profile for h in histories]),
            fold=_together([h.fold for h in histories]),
            values=_together([h.values for h in histories]),
        ),
        Targets(
            offsets=_offsets([t.offsets for t in targets]),
            items=np.concatenate([t.items for t in targets]),
            types=_together([t.types for t in targets]),
            values=_together([t.values for t in targets]),
            at=_together([t.at for t in targets]),
        ),
    )


def _together(parts: list[Any]) -> Any:
    """Joined; None where it is not known of all."""
    return None if any(part is None for part in parts) else np.concatenate(parts)


def _offsets(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    lengths = np.concatenate([np.diff(part) for part in parts])
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _split(
    examples: tuple[Histories, Targets], size: int
) -> tuple[tuple[Histories, Targets], tuple[Histories, Targets]]:
    histories, targets = examples
    head, tail = np.arange(size), np.arange(size, len(histories))
    return (
        (select(histories, head), select_targets(targets, head)),
        (select(histories, tail), select_targets(targets, tail)),
    )
