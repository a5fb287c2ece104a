"""Scorers without weights, which a learned model has to beat. They read the freshest state.

Each ranks the items 1..N, N + 1 being the length of the `popularity` it is given: items that the
vocabulary does not know yet at decision time cannot be recommended.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.histories import Floats, Histories, Ints

Keys = NDArray[np.int64]


class Popularity:
    """The same list for everybody. `popularity` is float [N + 1]; place 0 is never ranked."""

    name = "popularity"

    def __init__(self, popularity: NDArray[np.float64]) -> None:
        self.items = len(popularity) - 1
        counts = np.clip(np.nan_to_num(np.asarray(popularity, dtype=np.float64)), 0.0, None)
        # Below 1, so that one event of the user's own outweighs everybody else's.
        self.share = counts / (1.0 + counts[1:].max(initial=0.0))
        best = np.lexsort((np.arange(1, self.items + 1), -self.share[1:].astype(np.float32)))
        self.order: Ints = (best + 1).astype(np.int32)

    def top_k(
        self, histories: Histories, k: int, *, exclude_seen: bool = False
    ) -> tuple[Ints, Floats]:
        """See `Scorer.top_k`."""
        seen, weights = self._personal(histories)
        rows, items = seen // (self.items + 1), seen % (self.items + 1)
        if exclude_seen:
            return self._best(len(histories), k, seen, rows[:0], items[:0], weights[:0])
        return self._best(len(histories), k, seen[weights > 0], rows, items, weights)

    def _weights(self, histories: Histories) -> NDArray[np.float64]:
        """float64 [E]: what each past event adds to the score of its item."""
        return np.zeros(len(histories.items))

    def _personal(self, histories: Histories) -> tuple[Keys, NDArray[np.float64]]:
        """Distinct (row, item) pairs as sorted keys row * (N + 1) + item, with their weight."""
        known = (histories.items > 0) & (histories.items <= self.items)
        keys = histories.row[known] * (self.items + 1) + histories.items[known]
        found = np.unique(keys, return_inverse=True)
        pairs: Keys = found[0].astype(np.int64)
        place: Keys = found[1].astype(np.int64)
        added = self._weights(histories)[known]
        return pairs, np.bincount(place, weights=added, minlength=len(pairs)).astype(np.float64)

    def _best(
        self,
        size: int,
        k: int,
        taken: Keys,
        rows: Keys,
        items: Keys,
        weights: NDArray[np.float64],
    ) -> tuple[Ints, Floats]:
        """Best k of the personal (rows, items, weights) and of popular items not in `taken`."""
        own = weights > 0
        rows, items, weights = rows[own], items[own], weights[own]
        fill = self._popular(size, k, taken)  # [B, k]
        there = fill > 0
        all_rows = np.concatenate([rows, np.nonzero(there)[0]])
        all_items = np.concatenate([items, fill[there]])
        score = self.share[all_items]
        score[: len(items)] += weights
        score = score.astype(np.float32)  # before sorting: what looks tied is tied
        order = np.lexsort((all_items, -score, all_rows))
        starts = np.searchsorted(all_rows[order], np.arange(size))
        place = np.arange(len(order)) - starts[all_rows[order]]
        order, place = order[place < k], place[place < k]
        best: Ints = np.zeros((size, k), dtype=np.int32)
        scores: Floats = np.full((size, k), -np.inf, dtype=np.float32)
        best[all_rows[order], place] = all_items[order]
        scores[all_rows[order], place] = score[order]
        return best, scores

    def _popular(self, size: int, k: int, taken: Keys) -> Ints:
        """int32 [B, k]: the most popular items that are not taken, 0 where none are left."""
        width = min(k, self.items)
        while True:
            front = self.order[:width]
            keys = np.arange(size, dtype=np.int64)[:, None] * (self.items + 1) + front
            free = ~np.isin(keys, taken) if len(taken) else np.ones(keys.shape, dtype=np.bool_)
            if width == self.items or (free.sum(axis=1) >= k).all():
                break
            width = min(2 * width, self.items)
        places = np.argsort(~free, axis=1, kind="stable")[:, :k]
        chosen = np.where(np.take_along_axis(free, places, axis=1), front[places], 0)
        out = np.zeros((size, k), dtype=np.int32)
        out[:, : chosen.shape[1]] = chosen
        return out


class PersonalFrequency(Popularity):
    """How often the user took the item before; ties and the rest of the list by popularity."""

    name = "personal_frequency"

    def _weights(self, histories: Histories) -> NDArray[np.float64]:
        return np.ones(len(histories.items))


class RecencyFrequency(Popularity):
    """Visits in which the user took the item, each worth `decay` to the power of its age.

    Age counts whole windows; a repeat inside one visit (the same time) counts once. An unknown
    time counts as now. The most popular item of all is worth nearly one visit of today: of the
    weights 0.2 to 2 this was the best on Complete Journey, weeks 40 to 44.
    """

    name = "recency_frequency"

    def __init__(self, popularity: NDArray[np.float64], decay: float = 0.94) -> None:
        super().__init__(popularity)
        self.decay = decay

    def _weights(self, histories: Histories) -> NDArray[np.float64]:
        age = np.floor(histories.now[histories.row]) - np.floor(histories.at)
        weights: NDArray[np.float64] = self.decay ** np.nan_to_num(np.clip(age, 0, None))
        order = np.lexsort((histories.at, histories.items, histories.row))
        visit = np.stack([histories.row, histories.items, np.nan_to_num(histories.at)])[:, order]
        again = np.zeros(len(order), dtype=np.bool_)
        again[order[1:]] = (visit[:, 1:] == visit[:, :-1]).all(axis=0)
        return np.where(again, 0.0, weights.astype(np.float64))
