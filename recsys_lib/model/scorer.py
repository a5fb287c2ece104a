"""Score any histories with a bundle: all items ranked, the best k returned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.bundle import Bundle
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Floats, Histories, Ints
from recsys_lib.model.inputs import Inputs, Near, inputs
from recsys_lib.model.network import HIDDEN, Network, Spec
from recsys_lib.model.requests import known_to
from recsys_lib.model.tensorflow import tf
from recsys_lib.model.weights import load_arrays


def spec_of(values: dict[str, Any]) -> Spec:
    """A Spec from its JSON form."""
    lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Spec(**lists)


class ModelScorer:
    """A Scorer of one model version. With a newer `catalog` it knows today's items and counts,
    though its weights stay as they were learned."""

    def __init__(self, bundle: Bundle, catalog: Catalog | None = None, name: str = "model") -> None:
        self.name = name
        self.bundle = bundle if catalog is None else bundle.grown(catalog)
        shop = self.bundle.catalog
        self.network = Network(spec_of(self.bundle.spec), seed=0)
        load_arrays(self.network, self.bundle.arrays)
        self._stats = tf.constant(shop.stats.values)
        self._pool = self.network.pool(tf.range(shop.items + 1), tf.constant(shop.lookups))
        spec, known = self.network.spec, shop.neighbours
        self._near = None if known is None else Near(known, spec.near_events, spec.near_items)
        self._attributes = shop.attributes if spec.affinity else None
        self._matrices: dict[int, tf.Tensor] = {}
        self._score: Any = None

    def top_k(
        self, histories: Histories, k: int, *, exclude_seen: bool = False
    ) -> tuple[Ints, Floats]:
        """Best k items of each history (see Scorer)."""
        if not len(histories):
            return np.zeros((0, k), np.int32), np.zeros((0, k), np.float32)
        histories = known_to(self.bundle.catalog, histories)
        x = self._inputs(histories)
        row = self.bundle.catalog.stats.rows(histories.now)
        seen = _seen(histories) if exclude_seen else np.zeros((0, 2), np.int64)
        wanted = min(k, self.bundle.catalog.items)
        items, scores = (
            np.zeros((len(histories), k), np.int32),
            np.full((len(histories), k), -np.inf, np.float32),
        )
        for r in np.unique(row):
            chosen = np.flatnonzero(row == r)
            part = {name: tf.constant(value[chosen]) for name, value in x.as_dict().items()}
            hidden = _renumbered(seen, chosen, len(histories))
            matrix = self._matrix(int(r))
            stats = self._stats[int(r)]
            if self._score is None:
                signature = _signature(part, matrix, stats)
                self._score = tf.function(
                    self._score_graph, input_signature=signature, autograph=False
                )
            found, best = self._score(part, matrix, stats, tf.constant(hidden), tf.constant(wanted))
            items[chosen, :wanted] = np.where(best > HIDDEN / 2, found, 0)
            scores[chosen, :wanted] = np.where(best > HIDDEN / 2, best, -np.inf)
        return items, scores

    def log_values(self, histories: Histories) -> Floats:
        """log(1 + what each one's next targets are worth together): float32 [B]; zeros where the
        model did not learn it (`train.value_weight`)."""
        found = self._inputs(known_to(self.bundle.catalog, histories))
        x = {name: tf.constant(value) for name, value in found.as_dict().items()}
        return np.asarray(self.network.log_value(self.network.user_context(x, self._pool)))

    def _inputs(self, histories: Histories) -> Inputs:
        return inputs(
            histories,
            self.network.spec.recent_events,
            self.bundle.copy_items,
            self.bundle.decay,
            self._near,
            self._attributes,
            self.bundle.catalog.plans,
        )

    def _matrix(self, row: int) -> tf.Tensor:
        """[D + 1 + len(STATS), N + 1] for one statistics row, made once."""
        if row not in self._matrices:
            pool, size = self._pool, self.network.spec.embedding_size
            matrix = tf.transpose(tf.concat([pool.vectors, pool.bias, self._stats[row]], 1))
            nobody = tf.scatter_nd([[size, 0]], [HIDDEN], matrix.shape)
            self._matrices[row] = matrix + nobody
        return self._matrices[row]

    def _score_graph(
        self,
        x: dict[str, tf.Tensor],
        matrix: tf.Tensor,
        stats: tf.Tensor,
        seen: tf.Tensor,
        k: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        context = self.network.user_context(x, self._pool)
        logits = tf.matmul(self.network.user_vectors(context), matrix)
        gate = self.network.gate(x, context)
        scores = logits - tf.reduce_logsumexp(logits, 1, keepdims=True) + gate[:, 2:]
        heads = [self.network.copy_logits, self.network.near_logits]
        for part, (name, head) in enumerate(zip(("copy_items", "near_items"), heads, strict=True)):
            found = head(x, context, self._pool, tf.gather(stats, x[name]))
            found = tf.nn.log_softmax(found) + gate[:, part : part + 1]
            rows = tf.repeat(tf.range(tf.shape(logits)[0])[:, None], tf.shape(found)[1], axis=1)
            at = tf.stack([rows, x[name]], -1)
            both = tf.reduce_logsumexp(tf.stack([tf.gather_nd(scores, at), found]), 0)
            scores = tf.tensor_scatter_nd_update(scores, at, tf.where(x[name] > 0, both, HIDDEN))
        hide = tf.fill([tf.shape(seen)[0]], HIDDEN)
        scores = tf.tensor_scatter_nd_update(scores, seen, hide)
        best, found = tf.math.top_k(scores, k)
        return found, best


def _signature(x: dict[str, Any], matrix: Any, stats: Any) -> list[Any]:
    """For batches of every size: each new trace would cost a second."""
    return [
        {name: tf.TensorSpec([None] * v.shape.rank, v.dtype) for name, v in x.items()},
        tf.TensorSpec(matrix.shape, matrix.dtype),
        tf.TensorSpec(stats.shape, stats.dtype),
        tf.TensorSpec([None, 2], tf.int64),
        tf.TensorSpec([], tf.int32),
    ]


def _seen(histories: Histories) -> NDArray[np.int64]:
    """(history, item) of every past item: int64 [E, 2]."""
    return np.stack([histories.row, histories.items.astype(np.int64)], axis=1)


def _renumbered(seen: NDArray[np.int64], chosen: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    place = np.full(rows, -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    moved = np.stack([place[seen[:, 0]], seen[:, 1]], axis=1)
    return moved[moved[:, 0] >= 0]
