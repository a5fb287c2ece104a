"""What a slate is like, beside being right: how surprising, how varied, how true to the user.

For the best k items of a request, and categories = values of one item attribute:

novelty@k      mean of -log2 of the item's recent users as a share of those of the most popular
               item, 0 for that one and for an empty place (after Zhou et al. 2010, who take the
               share of all users: a number that counts of items do not tell; an item nobody took
               lately counts as half a user)
diversity@k    share of the slate's pairs of items that are of different categories (Ziegler et
               al. 2005)
calibration@k  1 - Jensen-Shannon divergence (base 2) between the categories of the user's past
               events and those of the slate (after Steck 2018): 1 is the same mix, 0 a disjoint one
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys_lib.evaluate.metrics import Doubles
from recsys_lib.model.histories import Histories, Ints

KINDS = ("novelty", "diversity", "calibration")


@dataclass(frozen=True)
class Shelf:
    """What slates are described by.

    users       float64 [N + 1]  recent users of each item
    categories  int32 [N + 1]    value of the attribute; 0 unknown. All 0: items have none
    """

    users: Doubles
    categories: NDArray[np.int32]

    def measures(self, histories: Histories, ranked: Ints, ks: Iterable[int]) -> dict[str, Doubles]:
        """Every measure of every request: float64 [B]. `ranked` int32 [B, K], 0 an empty place."""
        past = self._mix(histories.row, self._of(histories.items), len(histories))
        out: dict[str, Doubles] = {}
        for k in ks:
            top = ranked[:, :k]
            shown = top > 0
            count = np.maximum(shown.sum(1), 1)
            rows = np.nonzero(shown)[0]
            mix = self._mix(rows, self._of(top[shown]), len(top))
            out[f"novelty@{k}"] = (self._surprise[self._known(top)] * shown).sum(1) / count
            out[f"diversity@{k}"] = _unlike(mix)
            out[f"calibration@{k}"] = 1.0 - _divergence(past, mix)
        return out

    @cached_property
    def _surprise(self) -> Doubles:
        """-log2 of each item's share of the most popular one's users: float64 [N + 1]."""
        share = np.maximum(self.users, 0.5) / max(1.0, self.users.max(initial=0.0))
        return -np.log2(np.minimum(share, 1.0))

    @cached_property
    def _width(self) -> int:
        return int(self.categories.max(initial=0)) + 1

    def _known(self, items: Ints) -> Ints:
        return np.where(items < len(self.users), items, 0).astype(np.int32)

    def _of(self, items: Ints) -> NDArray[np.int32]:
        return self.categories[self._known(items)]

    def _mix(self, rows: NDArray, categories: NDArray[np.int32], size: int) -> Doubles:
        """float64 [size, C]: how often each known category stands in each row."""
        flat = np.bincount(rows * self._width + categories, minlength=size * self._width)
        counts: Doubles = flat.reshape(size, self._width).astype(np.float64)
        return counts[:, 1:]


def _unlike(mix: Doubles) -> Doubles:
    """Share of pairs of different categories; 0 where there is no pair."""
    count = mix.sum(1)
    pairs = count * (count - 1)
    alike = (mix * (mix - 1)).sum(1)
    return np.where(pairs > 0, 1.0 - alike / np.maximum(pairs, 1.0), 0.0)


def _divergence(past: Doubles, slate: Doubles) -> Doubles:
    """Jensen-Shannon divergence of the rows as distributions; 1 where one of them is empty."""
    p = past / np.maximum(past.sum(1, keepdims=True), 1.0)
    q = slate / np.maximum(slate.sum(1, keepdims=True), 1.0)
    middle = (p + q) / 2
    found = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    there = (past.sum(1) > 0) & (slate.sum(1) > 0)
    return np.where(there, np.clip(found, 0.0, 1.0), 1.0)


def _relative_entropy(p: Doubles, m: Doubles) -> Doubles:
    some = p > 0
    ratio = np.divide(p, m, out=np.ones_like(p), where=some)
    return np.asarray((p * np.log2(ratio)).sum(1))
