"""The encoder of a bundle as a TensorFlow function with constant weights, made to be exported.

Equal to `Network.user_context` and what hangs on it, with less work: of the last block only the
last position is needed, so its queries, and all that follows, are computed there alone; and with a
single query neither keys nor values have to be made (q W_k' meets the events themselves, and W_v
follows the mean of them). A key's bias adds the same to every position, so softmax forgets it.
Every layer that reads the stream takes its mean away first, so it is kept at mean zero by what
writes into it (Jiang et al. 2023), and gains and shifts of norms are multiplied into the kernels
behind them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from recsys_lib.model.bundle import Arrays
from recsys_lib.model.copies import USER_FEATURES
from recsys_lib.model.histories import Floats
from recsys_lib.model.inputs import EVENT_FACTS
from recsys_lib.model.network import Spec
from recsys_lib.model.tensorflow import tf


class EncoderModule(tf.Module):
    """events, facts, mask, causal, user -> [B, D + stats + 2]: user vector, popularity, gate.

    Shapes are those of `Encoder`; none is computed inside, or LiteRT could not plan ahead. `user`
    is the mean of the recent items' vectors, the user features, and the profile's vector where
    there is one.
    """

    def __init__(self, spec: Spec, arrays: Arrays) -> None:
        super().__init__()
        self._spec, self._arrays = spec, arrays
        d = spec.embedding_size
        wide = d + len(USER_FEATURES) + (d if spec.profile else 0)
        self.signature = [
            tf.TensorSpec([None, None, d], tf.float32, "events"),
            tf.TensorSpec([None, None, len(EVENT_FACTS)], tf.float32, "facts"),
            tf.TensorSpec([None, 1, None], tf.float32, "mask"),
            tf.TensorSpec([1, None, None], tf.float32, "causal"),
            tf.TensorSpec([None, wide], tf.float32, "user"),
        ]
        self.__call__ = tf.function(self._answer, input_signature=self.signature, autograph=False)

    def _answer(self, events: Any, facts: Any, mask: Any, causal: Any, user: Any) -> Any:
        told = [self._arrays[f"{name}/kernel"] for name in ("gap", "worth")]
        h = events + tf.matmul(facts, np.concatenate(told)) + self._arrays["gap/bias"]
        h -= tf.reduce_mean(h, -1, keepdims=True)
        for b in range(self._spec.blocks - 1):
            h = self._block(b, h, tf.minimum(mask, causal))
        last = self._last_block(h, mask) if self._spec.blocks else h[:, -1]
        kernel, bias = self._behind("final_norm", *self._layer("user_hidden"))
        context = tf.concat([_normal(last), user], 1)
        context = tf.nn.relu(tf.matmul(context, kernel) + bias)
        parts = [self._dense(name, context) for name in ("user_out", "popularity")]
        return tf.concat([*parts, self._gate(context, user)], 1)

    def _gate(self, context: Any, user: Any) -> Any:
        kernel, bias = self._layer("gate")
        logits = tf.matmul(context, kernel * np.float32(self._spec.gate_scale)) + bias
        if not self._spec.gate_user:
            return logits
        d = self._spec.embedding_size
        features = user[:, d : d + len(USER_FEATURES)]
        return logits + tf.matmul(features, self._arrays["gate_user/kernel"])

    def _block(self, b: int, h: Any, mask: Any) -> Any:
        x = _normal(h)
        for head in range(self._spec.heads_of(b)):
            query, key, value = (self._head(b, part, head, x) for part in ("query", "key", "value"))
            weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) + mask)
            h += tf.matmul(tf.matmul(weights, value), self._mixed(b, head))
        return self._feed_forward(b, h + _centred(self._arrays[f"block_{b}_mixed/bias"]))

    def _last_block(self, h: Any, mask: Any) -> Any:
        b = self._spec.blocks - 1
        x, last = _normal(h), h[:, -1]
        for head in range(self._spec.heads_of(b)):
            query = self._head(b, "query", head, x[:, -1])
            asked = tf.matmul(query, self._part(b, "key", head)[0].T)
            scores = tf.matmul(asked[:, None], x, transpose_b=True)
            mean = tf.matmul(tf.nn.softmax(scores + mask), x)[:, 0]
            last += tf.matmul(self._head(b, "value", head, mean), self._mixed(b, head))
        return self._feed_forward(b, last + _centred(self._arrays[f"block_{b}_mixed/bias"]))

    def _feed_forward(self, b: int, h: Any) -> Any:
        kernel, bias = self._behind(f"block_{b}_norm_2", *self._layer(f"block_{b}_inner"))
        inner = tf.nn.relu(tf.matmul(_normal(h), kernel) + bias)
        kernel, bias = self._layer(f"block_{b}_outer")
        return h + (tf.matmul(inner, _centred(kernel)) + _centred(bias))

    def _dense(self, name: str, x: Any) -> Any:
        kernel, bias = self._layer(name)
        return tf.matmul(x, kernel) + bias

    def _head(self, b: int, part: str, head: int, x: Any) -> Any:
        kernel, bias = self._part(b, part, head)
        return tf.matmul(x, kernel) + bias

    def _part(self, b: int, part: str, head: int) -> tuple[Floats, Floats]:
        """Kernel and bias behind the norm; a query is divided by the root of its size."""
        kernel, bias = self._behind(f"block_{b}_norm_1", *self._layer(f"block_{b}_{part}"))
        by = np.float32(1 / math.sqrt(self._spec.size_of_head) if part == "query" else 1)
        columns = self._columns(head)
        return kernel[:, columns] * by, bias[columns] * by

    def _mixed(self, b: int, head: int) -> Floats:
        return _centred(self._layer(f"block_{b}_mixed")[0][self._columns(head)])

    def _layer(self, name: str) -> tuple[Floats, Floats]:
        return np.asarray(self._arrays[f"{name}/kernel"]), np.asarray(self._arrays[f"{name}/bias"])

    def _behind(self, norm: str, kernel: Floats, bias: Floats) -> tuple[Floats, Floats]:
        """Of a layer whose first inputs are what the norm makes of a normal vector."""
        gain, shift = self._arrays[f"{norm}/gamma"], self._arrays[f"{norm}/beta"]
        size = len(gain)
        told = np.concatenate([gain[:, None] * kernel[:size], kernel[size:]])
        return told, bias + shift @ kernel[:size]

    def _columns(self, head: int) -> slice:
        size = self._spec.size_of_head
        return slice(head * size, (head + 1) * size)


def _normal(x: Any) -> Any:
    """Of a vector whose mean is zero."""
    return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True) + 1e-5)


def _centred(x: Floats) -> Floats:
    """So that the mean of what it writes is zero."""
    return np.asarray(x - x.mean(-1, keepdims=True))


def litert(module: EncoderModule, bits: int) -> bytes:
    """The module as a LiteRT model; with 8 bits, weights are int8 and activations are quantised
    as they come, row by row."""
    graph = module.__call__.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], module)
    if bits == 8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())
