"""U = f(behaviour, profile), C = g(attributes), R = h(U, C): one network, all of it prunable.

A causal Transformer reads the latest events; a copy head ranks every past item of the user; a
learned gate mixes the two: p = g p_copy + (1 - g) p_explore. Before any training the scores equal
recency-weighted personal frequency, filled up with popularity.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

from recsys_lib.model.copies import COPY_FEATURES, USER_FEATURES
from recsys_lib.model.half import HalfDense
from recsys_lib.model.inputs import EVENT_FACTS
from recsys_lib.model.neighbours import FEATURES as NEAR_FEATURES
from recsys_lib.model.stats import FEATURES as STATS
from recsys_lib.model.tail import ITEM_TABLES
from recsys_lib.model.tensorflow import keras, tf

Layer: TypeAlias = Any
"""A tf_keras layer: the package has no types."""
Tensors = dict[str, tf.Tensor]
Wrap = Callable[[Layer], Layer]
HIDDEN = -1e9
RARE = 20
"""One target in so many that its user had before, below which copying is not expected."""
HEADS = {head: (f"{head}_hidden", f"{head}_hidden_2", f"{head}_out") for head in ("copy", "near")}
"""Layers, in their order, of what ranks a user's past items and of what ranks near ones."""
_EACH_KNOWN_ITEM = [[float(name == "log_items"), 0.0] for name in USER_FEATURES]
GAPS = 2
"""Of the event facts, those that are times; what an event was worth is unheard before training."""


@dataclass(frozen=True)
class Spec:
    """Sizes of a network. Tables have one row more than their vocabulary: row 0 is "unknown".

    `items` are the rows of the item tables: one for each item, unless they end (`own_items`, behind
    which `shared_rows` are for all others; see tail).

    `stats` tell of an item at a decision; the copy head hears the first `copy_stats` of them, or
    all where this is 0.

    `affinity` features of each attribute are read by the heads; 0 by those that were made before
    there were any. So with `gate_user`: whether the gate reads the user's features themselves.

    A network that was shrunk says what is left of each block (`block_heads`, `block_neurons`), how
    large a head is, what is left of the heads that rank items (`copy_neurons`), and how many of the
    recent events its blocks read (`read_events`); where these are not set, all are as large as
    `heads`, `feed_forward_size`, `copy_size` and `recent_events` say, and the attention heads share
    the embedding among them.
    """

    items: int
    types: int
    attributes: tuple[int, ...] = ()
    profile: tuple[int, ...] = ()
    embedding_size: int = 64
    blocks: int = 2
    heads: int = 2
    feed_forward_size: int = 128
    copy_size: int = 32
    recent_events: int = 64
    dropout: float = 0.1
    id_dropout: float = 0.1
    stats: int = len(STATS)
    near_events: int = 32
    near_items: int = 256
    copy_stats: int = 0
    affinity: int = 0
    gate_user: bool = False
    own_items: int = 0
    shared_rows: int = 0
    head_size: int = 0
    block_heads: tuple[int, ...] = ()
    block_neurons: tuple[int, ...] = ()
    copy_neurons: int = 0
    read_events: int = 0

    @property
    def kindred(self) -> int:
        """Features that tell how the user stands to items of the same kind."""
        return self.affinity * len(self.attributes)

    def heads_of(self, block: int) -> int:
        return self.block_heads[block] if self.block_heads else self.heads

    def neurons_of(self, block: int) -> int:
        return self.block_neurons[block] if self.block_neurons else self.feed_forward_size

    @property
    def gate_scale(self) -> float:
        """Of the context, before the gate: where that reads the user's features as well, they are
        what it learns from first."""
        return 1 / math.sqrt(2 * self.embedding_size) if self.gate_user else 1.0

    @property
    def copy_hears(self) -> int:
        """Statistics of an item that the copy head is told."""
        return self.copy_stats or self.stats

    @property
    def reads(self) -> int:
        """Latest events that the blocks read."""
        return self.read_events or self.recent_events

    @property
    def size_of_head(self) -> int:
        return self.head_size or self.embedding_size // self.heads

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Pool(NamedTuple):
    """What items are to users: vectors [U, D], bias [U, 1], and how readily they are copied [U, 1].

    Heads that rank a few items use vectors and bias and teach them nothing: what makes an item
    repeated is not what it is like. Taught by both, vectors that are trained for longer get worse
    at the one while they get better at the other.
    """

    vectors: tf.Tensor
    bias: tf.Tensor
    copy_bias: tf.Tensor


class Network:
    """Layers and how they are joined. `wrap` decorates every prunable layer (see compress); `half`
    multiplies in bfloat16."""

    def __init__(self, spec: Spec, seed: int, wrap: Wrap | None = None, half: bool = False) -> None:
        self.spec = spec
        self._dense_layer = HalfDense if half else keras.layers.Dense
        self._seed = seed
        self._wrap = wrap or (lambda layer: layer)
        self.layers: dict[str, Layer] = {}
        d = spec.embedding_size
        self._table("items", spec.items, d, 0.1)
        self._table("item_bias", spec.items, 1, 0.0)
        self._table("copy_bias", spec.items, 1, 0.0)
        self._table("types", spec.types, d, 0.02)
        self._table("copy_types", spec.types, 4, 0.02)
        self._table("positions", spec.reads, d, 0.02)
        for i, size in enumerate(spec.attributes):
            self._table(f"attribute_{i}", size, d, 0.1)
        for i, size in enumerate(spec.profile):
            self._table(f"profile_{i}", size, d, 0.02)
        if spec.attributes:
            self._dense("attribute_hidden", d, d, "relu")
            self._dense("attribute_out", d, d, scale=0.1)
        self._dense("gap", GAPS, d)
        for b in range(spec.blocks):
            width = spec.heads_of(b) * spec.size_of_head
            self._norm(f"block_{b}_norm_1", d)
            for part in ("query", "key", "value"):
                self._dense(f"block_{b}_{part}", d, width)
            self._dense(f"block_{b}_mixed", width, d)
            self._norm(f"block_{b}_norm_2", d)
            self._dense(f"block_{b}_inner", d, spec.neurons_of(b), "relu")
            self._dense(f"block_{b}_outer", spec.neurons_of(b), d)
        self._norm("final_norm", d)
        context = 2 * d + (d if spec.profile else 0) + len(USER_FEATURES)
        self._dense("user_hidden", context, 2 * d, "relu")
        self._dense("user_out", 2 * d, d, scale=0.1)
        self._dense(
            "popularity", 2 * d, spec.stats, scale=0.0, bias=[1.0] + [0.0] * (spec.stats - 1)
        )
        self._dense("gate", 2 * d, 2, scale=0.0, bias=[0.0 if spec.gate_user else 1.5, -4.0])
        if spec.gate_user:
            self._dense("gate_user", len(USER_FEATURES), 2, scale=0.0, biased=False)
            self.layers["gate_user"].kernel.assign(_EACH_KNOWN_ITEM)
        copied = len(COPY_FEATURES) + spec.kindred + spec.copy_hears
        copied += len(USER_FEATURES) + 4 + 8 + 2
        self._dense("copy_item", d, 8)
        near = len(NEAR_FEATURES) + spec.kindred + spec.stats + len(USER_FEATURES) + 8 + 2
        for name, told in (("copy", copied), ("near", near)):
            neurons = spec.copy_neurons or spec.copy_size
            hidden, hidden_2, out = HEADS[name]
            self._dense(hidden, told, neurons, "relu")
            self._dense(hidden_2, neurons, neurons, "relu")
            self._dense(out, neurons, 1, scale=0.0)
        self._dense("worth", len(EVENT_FACTS) - GAPS, d, scale=0.0, biased=False)
        self._dense("value", 2 * d, 1, scale=0.0)
        self._dropout = keras.layers.Dropout(spec.dropout, seed=seed)

    # -- layers -------------------------------------------------------------------------------

    def _initializer(self, scale: float) -> Any:
        self._seed += 1
        if scale == 0.0:
            return "zeros"
        return keras.initializers.RandomNormal(stddev=scale, seed=self._seed)

    def _table(self, name: str, size: int, width: int, scale: float) -> None:
        layer = keras.layers.Embedding(
            size + 1, width, embeddings_initializer=self._initializer(scale), name=name
        )
        self._built(name, self._wrap(layer), (None,))

    def _dense(
        self,
        name: str,
        inputs: int,
        outputs: int,
        activation: str | None = None,
        scale: float = 1.0,
        bias: list[float] | None = None,
        biased: bool = True,
    ) -> None:
        layer = self._dense_layer(
            outputs,
            activation=activation,
            kernel_initializer=self._initializer(scale / math.sqrt(inputs)),
            use_bias=biased,
            bias_initializer=keras.initializers.Constant(bias or 0.0),
            name=name,
        )
        self._built(name, self._wrap(layer), (None, inputs))

    def _norm(self, name: str, width: int) -> None:
        layer = keras.layers.LayerNormalization(epsilon=1e-5, name=name)
        # Built for [B, L, D]: the axis is fixed here, and the last of a matrix is another one.
        self._built(name, layer, (None, None, width))

    def _built(self, name: str, layer: Layer, shape: tuple[int | None, ...]) -> None:
        layer.build(shape)
        self.layers[name] = layer

    def variables(self) -> dict[str, tf.Variable]:
        """Trainable variables by stable names such as `block_0_query/kernel`."""
        named = {}
        for name, layer in self.layers.items():
            for variable in layer.trainable_variables:
                tail = variable.name.split("/")[-1].split(":")[0]
                named[f"{name}/{tail}"] = variable
        return named

    def _apply(self, name: str, x: tf.Tensor, training: bool) -> tf.Tensor:
        layer = self.layers[name]
        if hasattr(layer, "pruning_step"):
            return layer(x, training=training)
        return layer(x)

    # -- C = g(attributes) --------------------------------------------------------------------

    def pool(self, items: tf.Tensor, lookups: tf.Tensor, training: bool = False) -> Pool:
        """Of item indices int32 [U]. `lookups` are the catalogue's: int32 [N + 1, 1 + A].

        Everything else names items by their position in the pool, whose first row is item 0: an
        item that stands in a batch a hundred times is computed once. In training, `id_dropout` of
        the ids are hidden so that attributes learn to stand alone; an item that was never learned
        has a zero id vector and is scored by its attributes.
        """
        found = tf.gather(lookups, items)
        vectors, *biases = self._looked_up(found[:, 0], training)
        if self.spec.attributes:
            if training and self.spec.id_dropout > 0:
                keep = tf.random.uniform(tf.shape(items)) >= self.spec.id_dropout
                vectors *= tf.cast(keep, vectors.dtype)[..., None]
            total = tf.add_n(
                [
                    self._apply(f"attribute_{i}", found[:, i + 1], training)
                    for i in range(len(self.spec.attributes))
                ]
            )
            hidden = self._apply("attribute_hidden", total, training)
            vectors += total + self._apply("attribute_out", hidden, training)
        return Pool(vectors, *biases)

    def _looked_up(self, rows: tf.Tensor, training: bool) -> list[tf.Tensor]:
        """What the item tables hold in these rows; nothing for items without one."""
        if not self.spec.own_items:
            return [self._apply(name, rows, training) for name in ITEM_TABLES]
        learned = tf.cast(rows >= 0, tf.float32)[:, None]
        rows = tf.maximum(rows, 0)
        return [self._apply(name, rows, training) * learned for name in ITEM_TABLES]

    # -- U = f(behaviour, profile) ------------------------------------------------------------

    def user_context(self, x: Tensors, pool: Pool, training: bool = False) -> tf.Tensor:
        """What is known of the user at the decision: float32 [B, 2 D]."""
        spec = self.spec
        items = x["recent_items"]
        known = items > 0
        vectors = tf.gather(pool.vectors, items)
        weight = tf.cast(known, tf.float32)[..., None]
        mean = tf.reduce_sum(vectors * weight, 1) / tf.maximum(tf.reduce_sum(weight, 1), 1.0)
        seen, types, facts = (
            part[:, -spec.reads :] for part in (known, x["recent_types"], x["recent_facts"])
        )
        width = tf.shape(seen)[1]
        positions = tf.range(width, 0, -1)
        h = vectors[:, -spec.reads :] * math.sqrt(spec.embedding_size) * 0.3
        h += self._apply("types", types, training)
        h += self._apply("gap", facts[..., :GAPS], training)
        h += self._apply("worth", facts[..., GAPS:], training)
        h += self._apply("positions", positions, training)[None]
        h = self._dropout(h, training=training)
        causal = tf.linalg.band_part(tf.ones([width, width], tf.bool), -1, 0)
        # The last position hears itself: a user without a past is answered alike in any company.
        heard = tf.concat([seen[:, :-1], tf.ones_like(seen[:, :1])], 1)
        allowed = causal[None] & heard[:, None, :]
        mask = tf.where(allowed, 0.0, HIDDEN)[:, None]
        for b in range(spec.blocks):
            h = self._block(b, h, mask, training)
        last = self._apply("final_norm", h[:, -1:], training)[:, 0]
        parts = [last, mean, x["user_features"]]
        if spec.profile:
            parts.append(
                tf.add_n(
                    [
                        self._apply(f"profile_{i}", x["profile"][:, i], training)
                        for i in range(len(spec.profile))
                    ]
                )
            )
        context = self._apply("user_hidden", tf.concat(parts, 1), training)
        return self._dropout(context, training=training)

    def _block(self, b: int, h: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        count, size = self.spec.heads_of(b), self.spec.size_of_head
        x = self._apply(f"block_{b}_norm_1", h, training)
        shape = tf.shape(x)

        def heads(part: str) -> tf.Tensor:
            y = self._apply(f"block_{b}_{part}", x, training)
            return tf.transpose(tf.reshape(y, [shape[0], shape[1], count, size]), [0, 2, 1, 3])

        scores = tf.matmul(heads("query"), heads("key"), transpose_b=True) / math.sqrt(size)
        weights = tf.nn.softmax(scores + mask)
        mixed = tf.transpose(tf.matmul(weights, heads("value")), [0, 2, 1, 3])
        mixed = tf.reshape(mixed, [shape[0], shape[1], count * size])
        h += self._dropout(self._apply(f"block_{b}_mixed", mixed, training), training=training)
        x = self._apply(f"block_{b}_norm_2", h, training)
        x = self._apply(f"block_{b}_inner", x, training)
        return h + self._dropout(self._apply(f"block_{b}_outer", x, training), training=training)

    # -- R = h(U, C) --------------------------------------------------------------------------

    def tastes(self, context: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """What multiplies an item's vector [B, D], and its statistics [B, len(STATS)]."""
        user = self._apply("user_out", context, training)
        return user, self._apply("popularity", context, training)

    def user_vectors(self, context: tf.Tensor, training: bool = False) -> tf.Tensor:
        """[B, D + 1 + len(STATS)]: multiplies item rows of vector, bias and statistics."""
        user, popularity = self.tastes(context, training)
        return tf.concat([user, tf.ones_like(user[:, :1]), popularity], 1)

    def copy_logits(
        self,
        x: Tensors,
        context: tf.Tensor,
        pool: Pool,
        stats: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Logits float32 [B, M] of the user's own past items; `stats` [B, M, len(STATS)].

        The first copy feature enters with weight one, so untrained logits rank by decayed count.
        """
        items = x["copy_items"]
        users, kinds, match = self._met(x, items, context, pool, training)
        bias = tf.gather(pool.copy_bias, items)
        types = self._apply("copy_types", x["copy_types"], training)
        heard = stats[..., : self.spec.copy_hears]
        told = [x["copy_features"], heard, users, types, kinds, match, bias]
        logits = x["copy_features"][..., 0] + bias[..., 0] + self._judged("copy", told, training)
        return tf.where(items > 0, logits, HIDDEN)

    def near_logits(
        self,
        x: Tensors,
        context: tf.Tensor,
        pool: Pool,
        stats: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Logits float32 [B, C] of items near the user's latest; `stats` [B, C, F].

        Untrained, they rank by the share of co-occurrence, the first feature.
        """
        items = x["near_items"]
        users, kinds, match = self._met(x, items, context, pool, training)
        bias = tf.gather(tf.stop_gradient(pool.bias), items)
        told = [x["near_features"], stats, users, kinds, match, bias]
        logits = x["near_features"][..., 0] + self._judged("near", told, training)
        return tf.where(items > 0, logits, HIDDEN)

    def _met(
        self, x: Tensors, items: tf.Tensor, context: tf.Tensor, pool: Pool, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Of items [B, M]: the user's features, the item's kind, and how it fits the user's taste,
        each [B, M, .]. Neither vectors nor context are taught by it."""
        vectors = tf.stop_gradient(pool.vectors)
        user = self._apply("user_out", tf.stop_gradient(context), training)
        match = tf.einsum("bd,bmd->bm", user, tf.gather(vectors, items))
        users = tf.repeat(x["user_features"][:, None], tf.shape(items)[1], axis=1)
        kinds = tf.gather(self._apply("copy_item", vectors, training), items)
        return users, kinds, match[..., None]

    def _judged(self, head: str, told: list[tf.Tensor], training: bool) -> tf.Tensor:
        """What a head of two hidden layers makes of what it is told of each item: [B, M]."""
        x = tf.concat(told, -1)
        for layer in HEADS[head]:
            x = self._apply(layer, x, training)
        return x[..., 0]

    def log_value(self, context: tf.Tensor, training: bool = False) -> tf.Tensor:
        """log(1 + what the targets are worth together): float32 [B]. Learned where
        `train.value_weight` is set."""
        return self._apply("value", context, training)[:, 0]

    def expect_repeats(self, repeated: int, targets: int) -> None:
        """Before any training: where less than one of RARE `targets` was `repeated`, the odds of
        copying begin smaller, by the square of what is missing: a known item has only a share of
        them, and a lesson is too short to unlearn them."""
        odds = RARE * (repeated + 1) / (targets - repeated + 1)
        self.layers["gate"].bias.assign_add([min(0.0, 2 * math.log(odds)), 0.0])

    def gate(self, x: Tensors, context: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Log shares [B, 3] of copying, of what is near, and of everything else.

        Untrained, each item that a user has had adds as much to the odds of copying: of a short
        past little is repeated, of a long one much (as in the Chinese restaurant process).
        """
        logit = self._apply("gate", context * self.spec.gate_scale, training)
        if self.spec.gate_user:
            logit += self._apply("gate_user", x["user_features"], training)
        some = tf.stack([x["copy_items"][:, 0] > 0, x["near_items"][:, 0] > 0], 1)
        logit = tf.where(some, logit, HIDDEN)
        return tf.nn.log_softmax(tf.concat([logit, tf.zeros_like(logit[:, :1])], 1))
