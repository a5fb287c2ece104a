"""Negative log-likelihood of a mixture: what the user repeats, and what is new."""

from __future__ import annotations

from recsys_lib.model.network import HIDDEN, Network
from recsys_lib.model.tensorflow import tf

Tensors = dict[str, tf.Tensor]


def mixture_loss(
    network: Network, x: Tensors, attributes: tf.Tensor, stats: tf.Tensor, training: bool
) -> tf.Tensor:
    """Mean over examples of the mean over targets of -log(g p_copy + (1 - g) p_explore); scalar.

    x holds the network's inputs, with items named by their position in the pool, and
      pool              int32 [U]     item indices, the first is 0
      stats_row         int32 [B]     row of `stats` [W, N + 1, F] at the decision
      targets           int32 [B, T]  0 padded
      target_copy       int32 [B, T]  position among copy_items, -1 where the target is new
      negatives         int32 [S]     shared by the batch
      negatives_log_q   float32 [S]   log of expected count in S draws; 0 for a full softmax

    The partition function is estimated from the negatives with logQ correction (Bengio and
    Senecal 2008), the targets themselves counted exactly.
    """
    pool = network.pool(x["pool"], attributes, training)
    context = network.user_context(x, pool, training)
    now = _Now(stats, x["pool"], x["stats_row"])
    copied = network.copy_logits(x, context, pool, now.of(x["copy_items"]), training)
    copied = tf.nn.log_softmax(copied)
    explored = _log_explore(network, x, context, pool, now, training)
    near = network.near_logits(x, context, pool, now.of(x["near_items"]), training)
    parts = [
        _at(copied, x["target_copy"]),
        _at(tf.nn.log_softmax(near), x["target_near"]),
        explored,
    ]
    gate = network.gate(x, context, training)
    log_p = tf.reduce_logsumexp(tf.stack(parts, -1) + gate[:, None], -1)
    real = tf.cast(x["targets"] > 0, tf.float32)
    per_example = tf.reduce_sum(log_p * real, 1) / tf.maximum(tf.reduce_sum(real, 1), 1.0)
    return -tf.reduce_mean(per_example)


def _at(log_p: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """log_p [B, M] of the targets at places [B, T]; none where the place is -1."""
    found = tf.gather(log_p, tf.maximum(places, 0), batch_dims=1)
    return tf.where(places >= 0, found, HIDDEN)


class _Now:
    """Item statistics at each example's own decision time."""

    def __init__(self, stats: tf.Tensor, pool: tf.Tensor, row: tf.Tensor) -> None:
        self._stats, self._pool, self._row = stats, pool, row

    def of(self, places: tf.Tensor) -> tf.Tensor:
        """[B, M, F] for pool positions [B, M]."""
        row = tf.repeat(self._row[:, None], tf.shape(places)[1], axis=1)
        return tf.gather_nd(self._stats, tf.stack([row, tf.gather(self._pool, places)], -1))

    def of_shared(self, places: tf.Tensor) -> tf.Tensor:
        """[B, S, F] for pool positions [S] that all examples share."""
        items = tf.gather(self._pool, places)
        return tf.gather(tf.gather(self._stats, items, axis=1), self._row)


def _log_explore(
    network: Network,
    x: Tensors,
    context: tf.Tensor,
    pool: tf.Tensor,
    now: _Now,
    training: bool,
) -> tf.Tensor:
    """log p_explore of every target: float32 [B, T]."""
    targets, negatives = x["targets"], x["negatives"]
    user = network.user_vectors(context, training)
    size = network.spec.embedding_size + 1
    vector, popularity = user[:, :size], user[:, size:]
    hits = tf.einsum("bd,btd->bt", vector, tf.gather(pool[:, :size], targets))
    hits += tf.einsum("bf,btf->bt", popularity, now.of(targets))
    noise = tf.matmul(vector, tf.gather(pool[:, :size], negatives), transpose_b=True)
    noise += tf.einsum("bf,bsf->bs", popularity, now.of_shared(negatives))
    noise -= x["negatives_log_q"][None]
    accidental = tf.reduce_any(negatives[None, :, None] == targets[:, None, :], -1)
    noise = tf.where(accidental, HIDDEN, noise)
    times = tf.reduce_sum(tf.cast(targets[:, :, None] == targets[:, None, :], tf.float32), 2)
    # An item taken twice in a window is still one item of the shop.
    real = tf.where(targets > 0, hits - tf.math.log(times), HIDDEN)
    total = tf.reduce_logsumexp(tf.concat([noise, real], 1), 1, keepdims=True)
    return hits - total
