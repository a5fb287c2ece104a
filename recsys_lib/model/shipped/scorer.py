"""Score histories with a serving bundle: the same mixture as the network's, by other means.

Past and near items are few: their parts of the mixture are computed for them alone. All others
have the explore part alone, so the best of the whole shop are the best of these few and the best
that the search finds among the rest.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lib.errors import ModelError
from recsys_lib.model.affinity import with_affinity
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.compiled import Part, best_of, embedded
from recsys_lib.model.copies import Copies, copies
from recsys_lib.model.histories import Floats, Histories, Ints
from recsys_lib.model.inputs import ages, event_facts
from recsys_lib.model.neighbours import Nearby, Neighbours, near
from recsys_lib.model.ragged import lengths_of
from recsys_lib.model.requests import known_to, select
from recsys_lib.model.shipped.bundle import Shipped
from recsys_lib.model.shipped.encoder import MASKED, encoder_of
from recsys_lib.model.shipped.heads import Head
from recsys_lib.model.shipped.search import Search, Shelf

Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class _Shop:
    """What the shop is like at one row of the statistics: what the heads have of each item
    float32 [N + 1, H], the bias of copying it [N + 1], and all that can be explored."""

    copied: Floats
    near: Floats
    copy_bias: Floats
    shelf: Shelf
    search: Search


@dataclass(frozen=True)
class _Asking:
    """What the encoder says of B users: user [B, D], taste [B, K] of what is known of an item, and
    gate [B, 3], log shares of copying, of what is near, and of all else."""

    user: Floats
    taste: Floats
    gate: Floats

    @classmethod
    def of(cls, told: Floats, size: int, copied: Offsets, near: Offsets) -> _Asking:
        taste = np.ones((len(told), told.shape[1] - size - 1), np.float32)
        taste[:, :-1] = told[:, size:-2]
        gate = np.zeros((len(told), 3), np.float32)
        gate[:, 0] = np.where(lengths_of(copied) > 0, told[:, -2], MASKED)
        gate[:, 1] = np.where(lengths_of(near) > 0, told[:, -1], MASKED)
        gate -= gate.max(1)[:, None]
        gate -= np.log(np.exp(gate).sum(1))[:, None]
        return cls(np.ascontiguousarray(told[:, :size]), taste, gate)


class _Turn:
    """A lock that stays behind when its owner is pickled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[_Turn], tuple[()]]:
        return _Turn, ()


class ShippedScorer:
    """A Scorer of a serving bundle. With a newer `catalog` it knows today's items and counts.

    Threads may share it, and are answered one after the other; to be answered at the same time,
    each needs its own.
    """

    ROWS, ROOM = 512, 1 << 22
    """Histories that are answered together, at most, and numbers that are held for all of them: a
    larger shop answers fewer."""

    def __init__(
        self,
        shipped: Shipped,
        catalog: Catalog | None = None,
        name: str = "model",
        *,
        threads: int = 1,
        tensorflow: bool = False,
    ) -> None:
        """`tensorflow`: ask the SavedModel even where LiteRT is there."""
        self.name = name
        self.bundle = shipped if catalog is None else shipped.grown(catalog)
        self._encode: Any = encoder_of(
            shipped.encoder, shipped.saved, threads, tensorflow=tensorflow
        )
        weights, spec = self.bundle.weights, self.bundle.spec
        self._kinds = weights["copy_item/bias"].shape[0]
        heard = {"copy": spec.get("copy_stats") or spec["stats"], "near": spec["stats"]}
        self._copy, self._near = (
            Head(part, weights, self._kinds, stats) for part, stats in heard.items()
        )
        tables = self.bundle.tables
        self._types = tables["types"].all()
        self._positions = tables["positions"].all()
        self._profile = [tables[f"profile_{i}"].all() for i in range(len(spec["profile"]))]
        self._shops: dict[int, _Shop] = {}
        self._turn = _Turn()

    @classmethod
    def open(
        cls, folder: str | Path, catalog: Catalog | None = None, **options: Any
    ) -> ShippedScorer:
        """Load a folder, which proves itself by hashes and golden answers. Raises ModelError."""
        shipped = Shipped.load(folder)
        if shipped.golden is not None:
            # By the encoder that is to answer, under the name that a fault is told by.
            shipped.golden.check(cls(shipped, **{**options, "name": str(folder)}))
        return cls(shipped, catalog, **options)

    def top_k(
        self, histories: Histories, k: int, *, exclude_seen: bool = False
    ) -> tuple[Ints, Floats]:
        """Best k items of each history (see Scorer)."""
        count = len(histories)
        items, scores = np.zeros((count, k), np.int32), np.full((count, k), -np.inf, np.float32)
        if not count:
            return items, scores
        histories = known_to(self.bundle.catalog, histories)
        row = self.bundle.catalog.stats.rows(histories.now)
        wanted = min(k, self.bundle.catalog.items)
        for r in np.unique(row):
            mine = np.flatnonzero(row == r)
            with self._turn:
                shop = self._shop(int(r))
            together = max(1, min(self.ROWS, self.ROOM // shop.search.width))
            for start in range(0, len(mine), together):
                chosen = mine[start : start + together]
                part = histories if len(chosen) == count else select(histories, chosen)
                with self._turn:
                    found, best = self._answer(part, shop, wanted, exclude_seen)
                items[chosen, :wanted], scores[chosen, :wanted] = found, best
        return items, scores

    def with_items(self, ids: Sequence[str], attributes: NDArray[np.int32]) -> ShippedScorer:
        """The same with items that came since, by their attributes [R, A] alone: nothing is
        exported, trained or searched anew. For services that answer between two versions."""
        more = copy.copy(self)
        more.bundle = self.bundle.grown(self.bundle.catalog.extended(ids, attributes))
        more._shops = {}  # the encoder stays shared, and so does the turn
        with self._turn:
            stocked = dict(self._shops)
        for row, shop in stocked.items():
            shelf = more._shelf(row)
            more._shops[row] = more._stocked(row, shelf, shop.search.extended(shelf))
        return more

    def _shelf(self, row: int) -> Shelf:
        stats, bias = self.bundle.catalog.stats.values[row], self.bundle.biases[:, :1]
        known = np.concatenate([stats, bias], 1)
        return Shelf(self.bundle.vectors, np.ascontiguousarray(known, np.float32))

    def _stocked(self, row: int, shelf: Shelf, search: Search) -> _Shop:
        b, stats = self.bundle, self.bundle.catalog.stats.values[row]
        kinds = b.vectors.all() @ b.weights["copy_item/kernel"] + b.weights["copy_item/bias"]
        bias, copy_bias = np.ascontiguousarray(b.biases.T)
        copied = self._copy.of_items(kinds, stats, copy_bias)
        return _Shop(copied, self._near.of_items(kinds, stats, bias), copy_bias, shelf, search)

    def _shop(self, row: int) -> _Shop:
        if row not in self._shops:
            shelf, summed = self._shelf(row), self.bundle.search["ann_items"]
            search = Search(shelf, self.bundle.typical, summed)
            self._shops[row] = self._stocked(row, shelf, search)
        return self._shops[row]

    def _answer(
        self, histories: Histories, shop: _Shop, k: int, exclude_seen: bool
    ) -> tuple[Ints, Floats]:
        spec, b = self.bundle.spec, self.bundle
        age = ages(histories)
        copied = copies(histories, age, b.copy_items, b.decay, b.catalog.plans)
        known = b.catalog.neighbours or Neighbours.none(b.catalog.items)
        nearby = near(histories, known, spec["near_events"], spec["near_items"])
        if spec.get("affinity"):
            copied, nearby = with_affinity(copied, nearby, b.catalog.attributes)
        told = self._encoded(histories, age, copied.user_features)
        asking = _Asking.of(told, spec["embedding_size"], copied.offsets, nearby.offsets)
        gate = asking.gate
        gate[:, 2] -= shop.search.total(asking.user, asking.taste)
        hidden = np.zeros(len(gate) + 1, np.int64), np.zeros(0, np.int32)
        if exclude_seen:
            hidden = histories.offsets, histories.items
        bounds = shop.search.bounds(asking.user, asking.taste)
        return best_of(
            self._parts(copied, nearby, shop, asking),
            gate,
            hidden,
            int(exclude_seen),
            shop.search.cells,
            (asking.user, asking.taste, bounds),
            k,
        )

    def _parts(
        self, copied: Copies, nearby: Nearby, shop: _Shop, asking: _Asking
    ) -> tuple[Part, Part]:
        """Past and near items with their logits, and what they score in the shop."""
        vectors, users = self.bundle.vectors, copied.user_features
        match = vectors.values, vectors.scales, asking.user
        told = match, (shop.shelf.known, asking.taste)
        rows = copied.offsets, copied.items, copied.types
        logits, explored = self._copy(copied.features, rows, *told, shop.copied, users)
        logits += shop.copy_bias[copied.items]
        own = copied.offsets, copied.items, logits, explored
        rows = nearby.offsets, nearby.items, np.zeros(len(nearby.items), np.int32)
        logits, explored = self._near(nearby.features, rows, *told, shop.near, users)
        return own, (nearby.offsets, nearby.items, logits, explored)

    def _encoded(self, histories: Histories, age: Floats, user_features: Floats) -> Floats:
        spec = self.bundle.spec
        size, recent = spec["embedding_size"], spec["recent_events"]
        lengths = lengths_of(histories.offsets)
        longest = int(lengths.max(initial=1))
        reads = spec.get("read_events") or recent
        width = min(reads, 1 << max(0, (longest - 1).bit_length()))
        vectors = self.bundle.vectors
        events, mean, seen = embedded(
            histories.offsets,
            histories.items,
            histories.types,
            (width, recent),
            (vectors.values, vectors.scales, math.sqrt(size) * 0.3),
            self._types,
            self._positions,
        )
        facts = event_facts(histories, age, width)
        mask = np.where(seen, np.float32(0), np.float32(MASKED))[:, None]
        mask[:, :, -1] = 0  # as in Network.user_context
        parts = [mean, user_features]
        if self._profile:
            profile = zip(self._profile, histories.profile.T, strict=True)
            parts.append(np.sum([table[words] for table, words in profile], 0))
        return np.asarray(self._encode(events, facts, mask, np.concatenate(parts, 1)))


def reopened(
    current: ShippedScorer | None, folder: str | Path, catalog: Catalog | None = None
) -> tuple[ShippedScorer, str]:
    """The bundle of `folder`, and ""; where it is refused, the current one, and the reason. For
    services that go over to a new version without a stop.

    Raises ModelError where there is no current one to stay with.
    """
    try:
        return ShippedScorer.open(folder, catalog), ""
    except ModelError as error:
        if current is None:
            raise
        return current, str(error)
