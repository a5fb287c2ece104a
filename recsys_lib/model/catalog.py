"""What a model must know of the shop at one moment: vocabulary sizes, attributes, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys_lib.errors import ModelError
from recsys_lib.model.neighbours import Neighbours
from recsys_lib.model.plans import Plans
from recsys_lib.model.stats import POPULARITY, ItemStats
from recsys_lib.model.tail import NONE, Cut


@dataclass(frozen=True)
class Catalog:
    """The shop as of the start of some window.

    ids         item id of each index, str [N + 1]; index 0 is ""
    attributes  int32 [N + 1, A]; row 0 is all unknown
    sizes       vocabulary size of each item attribute, int [A]
    profile     vocabulary size of each user attribute, int [P]
    types       event type names by index, types[0] is ""
    stats       item statistics for the windows that will be asked about
    neighbours  items taken near one another; None: nothing is known
    plans       what was planned for items, window by window; None: nothing ever
    rows        int32 [N + 1], the row of each item in a model's item tables (see tail); None: its
                index
    """

    ids: NDArray[np.str_]
    attributes: NDArray[np.int32]
    sizes: tuple[int, ...]
    profile: tuple[int, ...]
    types: tuple[str, ...]
    stats: ItemStats
    neighbours: Neighbours | None = None
    plans: Plans | None = None
    rows: NDArray[np.int32] | None = None

    @property
    def items(self) -> int:
        return len(self.ids) - 1

    @property
    def lookups(self) -> NDArray[np.int32]:
        """What an item's vector is made of: its row of the item tables (NONE: it has not been
        learned), then its attributes; int32 [N + 1, 1 + A]."""
        rows = np.arange(self.items + 1, dtype=np.int32) if self.rows is None else self.rows
        return np.concatenate([rows[:, None], self.attributes], 1)

    def check_follows(self, older: Catalog) -> None:
        """Raises ModelError where this is not the shop of `older`, with more or as much in it."""
        if self.items < older.items:
            raise ModelError(
                f"the shop must know the model's {older.items} items, got {self.items}: "
                "vocabularies never shrink; use the tables that it was made with, or newer ones"
            )
        known = len(older.ids)
        other = np.flatnonzero(self.ids[:known] != older.ids)
        if len(other):
            first = int(other[0])
            raise ModelError(
                f"item {first} must be {str(older.ids[first])!r} as in the model, got "
                f"{str(self.ids[first])!r}: this is another shop; use the tables that the model "
                "was made with, or newer ones"
            )
        for name in ("attributes", "profile"):
            wanted, got = (shop.columns[name] for shop in (older, self))
            if wanted != got:
                raise ModelError(
                    f"the model has {wanted} {name} columns, the tables {got}; map the same "
                    "columns, or train a first model anew"
                )

    @property
    def columns(self) -> dict[str, int]:
        """How many attributes items and users have."""
        return {"attributes": self.attributes.shape[1], "profile": len(self.profile)}

    def settled(self, cut: Cut) -> Catalog:
        """With a row for each item, of tables that end at `cut`."""
        return replace(self, rows=cut.rows(self.stats.values[-1, :, 0], self.rows))

    def extended(self, ids: Sequence[str], attributes: NDArray[np.int32]) -> Catalog:
        """With items that came since, of these attributes [R, A]; nobody has bought them yet."""
        more, stats = len(ids), self.stats.values
        unsold = np.take_along_axis(stats, stats[:, :, :1].argmin(1)[:, None], 1)
        unsold[:, :, len(POPULARITY) :] = 0.0
        near = self.neighbours
        if near is not None:
            wide = [(0, 0), (0, more), (0, 0)]
            near = Neighbours(
                np.pad(near.items, wide), np.pad(near.share, wide), np.pad(near.mass, wide[:2])
            )
        return replace(
            self,
            ids=np.concatenate([self.ids, np.asarray(ids, np.str_)]),
            attributes=np.concatenate([self.attributes, attributes]),
            stats=ItemStats(self.stats.first, np.concatenate([stats, unsold.repeat(more, 1)], 1)),
            neighbours=near,
            plans=None if self.plans is None else self.plans.extended(more),
            rows=None if self.rows is None else np.pad(self.rows, (0, more), constant_values=NONE),
        )

    def type_indices(self, names: tuple[str, ...]) -> frozenset[int] | None:
        """Indices of these event types; None (all types) for no names."""
        if not names:
            return None
        return frozenset(i for i, name in enumerate(self.types) if i and name in names)
