"""Negative log-likelihood of a mixture (what the user repeats, what is near, all else), and how
far a student strays from its teacher."""

from __future__ import annotations

from dataclasses import dataclass

from recsys_lib.model.network import HIDDEN, Network
from recsys_lib.model.tensorflow import tf

Tensors = dict[str, tf.Tensor]
SHARED = ("pool", "negatives", "negatives_log_q")
"""What a batch has once, and not by example."""


@dataclass(frozen=True)
class Answers:
    """What a network says of a batch: logits of each part of the mixture, and of the targets.

    copied [B, M], near [B, C], negatives [B, S], targets [B, T]; gate [B, 3] log shares of the
    parts; value [B] log of 1 + what the targets are worth.
    """

    copied: tf.Tensor
    near: tf.Tensor
    negatives: tf.Tensor
    targets: tf.Tensor
    gate: tf.Tensor
    value: tf.Tensor


def answers(
    network: Network, x: Tensors, lookups: tf.Tensor, stats: tf.Tensor, training: bool
) -> Answers:
    """Ask `network` about a batch.

    x holds the network's inputs, with items named by their position in the pool, and
      pool              int32 [U]     item indices, the first is 0
      stats_row         int32 [B]     row of `stats` [W, N + 1, F] at the decision
      targets           int32 [B, T]  0 padded
      target_copy       int32 [B, T]  position among copy_items, -1 where it is not there
      target_near       int32 [B, T]  the same among near_items
      target_weight     float32 [B, T]  what it counts, as does its example; 0 where there is none
      target_value      float32 [B]   log(1 + what the targets are worth together)
      negatives         int32 [S]     shared by the batch
      negatives_log_q   float32 [S]   log of expected count in S draws; 0 for a full softmax
      rehearsed         float32 [B]   1 where the example is an old one
    """
    pool = network.pool(x["pool"], lookups, training)
    context = network.user_context(x, pool, training)
    now = _Now(stats, x["pool"], x["stats_row"])
    user, popularity = network.tastes(context, training)
    targets, negatives = x["targets"], x["negatives"]
    hits = tf.einsum("bd,btd->bt", user, tf.gather(pool.vectors, targets))
    hits += tf.einsum("bf,btf->bt", popularity, now.of(targets))
    noise = tf.matmul(user, tf.gather(pool.vectors, negatives), transpose_b=True)
    noise += tf.einsum("bf,bsf->bs", popularity, now.of_shared(negatives))
    return Answers(
        copied=network.copy_logits(x, context, pool, now.of(x["copy_items"]), training),
        near=network.near_logits(x, context, pool, now.of(x["near_items"]), training),
        negatives=noise + tf.gather(pool.bias[:, 0], negatives),
        targets=hits + tf.gather(pool.bias[:, 0], targets),
        gate=network.gate(x, context, training),
        value=network.log_value(context, training),
    )


def mixture_loss(told: Answers, x: Tensors) -> tf.Tensor:
    """Mean over examples of the weighted mean over targets of -log sum_parts gate_part p_part.

    The partition function of the explore part is estimated from the negatives with logQ
    correction (Bengio and Senecal 2008), the targets themselves counted exactly.
    """
    parts = [
        _at(tf.nn.log_softmax(told.copied), x["target_copy"]),
        _at(tf.nn.log_softmax(told.near), x["target_near"]),
        _log_explore(told, x),
    ]
    log_p = tf.reduce_logsumexp(tf.stack(parts, -1) + told.gate[:, None], -1)
    real = tf.cast(x["targets"] > 0, tf.float32)
    weighted = tf.where(x["targets"] > 0, log_p * x["target_weight"], 0.0)
    per_example = tf.reduce_sum(weighted, 1) / tf.maximum(tf.reduce_sum(real, 1), 1.0)
    return -tf.reduce_mean(per_example)


def value_loss(told: Answers, x: Tensors) -> tf.Tensor:
    """Mean squared error of the log value, over examples."""
    return tf.reduce_mean(tf.square(told.value - x["target_value"]))


def rehearsed(x: Tensors, told: Answers) -> tuple[Tensors, Answers]:
    """The old examples of a batch alone, and what was said of them."""
    rows = tf.where(x["rehearsed"] > 0)[:, 0]
    kept = {n: v if n in SHARED else tf.gather(v, rows) for n, v in x.items()}
    return kept, Answers(*(tf.gather(part, rows) for part in vars(told).values()))


def distillation_loss(teacher: Answers, student: Answers, x: Tensors) -> tf.Tensor:
    """Mean over examples of KL(teacher || student) of the mixture: which part, and which of it; 0
    of none.

    By the chain rule (Cover and Thomas, theorem 2.5.3) it is that of the shares, and that of each
    part as far as the teacher listens to it. Of the explore part it is estimated from the negatives
    with logQ correction, as in `mixture_loss`. On rehearsed examples it keeps what the parent knew
    and the few exemplars do not show (Hinton et al. 2015; Mi et al. 2020 for recommenders that
    learn continually).
    """
    parts = [
        _divergence(teacher.copied, student.copied),
        _divergence(teacher.near, student.near),
        _divergence(_each_once(teacher, x), _each_once(student, x)),
    ]
    within = tf.reduce_sum(tf.exp(teacher.gate) * tf.stack(parts, -1), 1)
    return tf.math.divide_no_nan(
        tf.reduce_sum(_divergence(teacher.gate, student.gate) + within),
        tf.cast(tf.shape(student.gate)[0], tf.float32),
    )


def _divergence(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """KL [B] of the distributions that these logits stand for."""
    log_p, log_q = tf.nn.log_softmax(teacher), tf.nn.log_softmax(student)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), 1)


def _each_once(told: Answers, x: Tensors) -> tf.Tensor:
    """Logits [B, S] of the negatives, less what they owe to being drawn often (logQ)."""
    return told.negatives - x["negatives_log_q"][None]


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


def _log_explore(told: Answers, x: Tensors) -> tf.Tensor:
    """log p_explore of every target: float32 [B, T]."""
    targets, negatives = x["targets"], x["negatives"]
    noise = _each_once(told, x)
    accidental = tf.reduce_any(negatives[None, :, None] == targets[:, None, :], -1)
    noise = tf.where(accidental, HIDDEN, noise)
    times = tf.reduce_sum(tf.cast(targets[:, :, None] == targets[:, None, :], tf.float32), 2)
    # An item taken twice in a window is still one item of the shop.
    real = tf.where(targets > 0, told.targets - tf.math.log(times), HIDDEN)
    total = tf.reduce_logsumexp(tf.concat([noise, real], 1), 1, keepdims=True)
    return told.targets - total
