"""A LightGBM ranker: trees over candidates, with the features that our network reads too."""

from __future__ import annotations

from collections.abc import Iterable

import lightgbm
import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.catalog import Catalog
from recsys_lib.model.copies import COPY_FEATURES
from recsys_lib.model.histories import Floats, Histories, Ints, Targets
from recsys_lib.model.inputs import Near, inputs
from recsys_lib.model.neighbours import FEATURES as NEAR_FEATURES
from recsys_lib.model.requests import select, select_targets

COPIES, NEAR, POPULAR = 160, 80, 50
SLICE = 256
KEPT = 0.3
"""Share of the candidates that were not bought which is enough to learn from."""
Asked = tuple[Histories, Targets]
Lesson = tuple[NDArray[np.float32], NDArray[np.bool_]]


class Ranker:
    """Scores the user's own items, items near the latest, and popular ones; fills up with the
    last. `catalog` is the shop at the decision, `planned` how many of its statistics are plans."""

    def __init__(self, catalog: Catalog, decay: float, planned: int, plans: bool = True) -> None:
        """Without `plans` these columns are hidden from the trees, as is what plans have done."""
        self.name = "lightgbm" if plans else "lightgbm_no_plans"
        self.catalog, self.decay = catalog, decay
        self.model: lightgbm.Booster | None = None
        stats = catalog.stats.values.shape[2] - catalog.stats.kinds
        last = 1 + len(COPY_FEATURES) + len(NEAR_FEATURES) + stats
        self._plans = catalog.plans if plans else None
        self._hidden = [] if plans else list(range(last - planned - 1, last))

    def lesson(self, asked: Asked, seed: int) -> Lesson:
        """Candidates of these histories: all that were bought, a share of the others."""
        histories, targets = asked
        features, labels = [], []
        for start in range(0, len(histories), SLICE):
            chosen = np.arange(start, min(start + SLICE, len(histories)))
            part, wanted = select(histories, chosen), select_targets(targets, chosen)
            x, row, item = self._candidates(part)
            key = np.repeat(np.arange(len(part)), np.diff(wanted.offsets)) * 2**31
            bought = np.isin(row * np.int64(2**31) + item, key + wanted.items)
            kept = bought | (np.random.default_rng([seed, start]).random(len(row)) < KEPT)
            features.append(x[kept])
            labels.append(bought[kept])
        return np.concatenate(features), np.concatenate(labels)

    def learn(self, lessons: Iterable[Lesson], seed: int) -> None:
        features, labels = zip(*lessons, strict=True)
        seen = np.delete(np.concatenate(features), self._hidden, axis=1)
        data = lightgbm.Dataset(seen, np.concatenate(labels))
        settings = {
            "objective": "binary",
            "learning_rate": 0.05,
            "num_leaves": 63,
            "min_data_in_leaf": 200,
            "feature_fraction": 0.6,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "lambda_l2": 5.0,
            "seed": seed,
            "num_threads": 2,
            "verbose": -1,
        }
        self.model = lightgbm.train(settings, data, num_boost_round=300)

    def top_k(
        self, histories: Histories, k: int, *, exclude_seen: bool = False
    ) -> tuple[Ints, Floats]:
        """See `Scorer.top_k`."""
        assert self.model is not None
        items = np.zeros((len(histories), k), np.int32)
        scores = np.full((len(histories), k), -np.inf, np.float32)
        for start in range(0, len(histories), SLICE):
            part = select(histories, np.arange(start, min(start + SLICE, len(histories))))
            x, row, item = self._candidates(part)
            seen = np.delete(x, self._hidden, axis=1)
            told = np.asarray(self.model.predict(seen, num_threads=2), np.float32)
            if exclude_seen:
                new = x[:, 0] == 0
                row, item, told = row[new], item[new], told[new]
            order = np.lexsort((item, -told, row))
            row, item, told = row[order], item[order], told[order]
            place = np.arange(len(row)) - np.searchsorted(row, np.arange(len(part)))[row]
            kept = place < k
            items[start + row[kept], place[kept]] = item[kept]
            scores[start + row[kept], place[kept]] = told[kept]
        return items, scores

    def _candidates(
        self, histories: Histories
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """features [C, F], the first of which says that the user had it; row [C]; item [C]."""
        shop = self.catalog
        known = None if shop.neighbours is None else Near(shop.neighbours, 32, NEAR)
        found = inputs(histories, 1, COPIES, self.decay, known, plans=self._plans)
        stats = shop.stats.values[shop.stats.rows(histories.now)[0]]
        front = np.argsort(-stats[1:, 0], kind="stable")[: 2 * POPULAR].astype(np.int64) + 1
        users = len(histories)
        span = np.int64(2**31)
        width = found.copy_features.shape[2], found.near_features.shape[2]
        parts, nothing = [], np.float32(np.nan)
        for items, own, near in (
            (found.copy_items, found.copy_features, None),
            (found.near_items, None, found.near_features),
            (np.repeat(front[None], users, 0), None, None),
        ):
            row, place = np.nonzero(items)
            key = row * span + items[row, place]
            copy = own[row, place] if own is not None else np.full((len(row), width[0]), nothing)
            far = near[row, place] if near is not None else np.full((len(row), width[1]), nothing)
            seen = np.full((len(row), 1), float(own is not None))
            parts.append((key, np.concatenate([seen, copy, far], 1, dtype=np.float32)))
        key = np.concatenate([k for k, _ in parts])
        _, first = np.unique(key, return_index=True)  # own items come first, and stay
        key, x = key[first], np.concatenate([f for _, f in parts])[first]
        row, item = key // span, key % span
        told = [x, stats[item], found.user_features[row], self._affinity(found, row, item)]
        return np.concatenate(told, 1, dtype=np.float32), row, item

    def _affinity(self, found: object, row: NDArray, item: NDArray) -> NDArray[np.float32]:
        """Share of the user's decayed counts in the item's own attribute values: [C, A]."""
        shop = self.catalog
        copies, weight = found.copy_items, np.exp(found.copy_features[..., 0])  # type: ignore[attr-defined]
        users, place = np.nonzero(copies)
        weight = weight[users, place]
        whole = np.bincount(users, weights=weight, minlength=len(copies)) + 1e-6
        out = np.zeros((len(row), shop.attributes.shape[1]), np.float32)
        for a in range(out.shape[1]):
            values = shop.attributes[:, a]
            size = int(values.max(initial=0)) + 1
            held = np.bincount(
                users * size + values[copies[users, place]],
                weights=weight,
                minlength=len(copies) * size,
            )
            out[:, a] = held[row * size + values[item]] / whole[row]
        return out
