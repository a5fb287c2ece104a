"""The encoder of a bundle as a TensorFlow function with constant weights, made to be exported.

Equal to `Network.user_context` and what hangs on it, with less work: of the last block only the
last position is needed, so its queries, and all that follows, are computed there alone; and with a
single query neither keys nor values have to be made (q W_k' meets the events themselves, and W_v
follows the mean of them). A key's bias adds the same to every position, so softmax forgets it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.bundle import Arrays
from recsys_lib.model.copies import USER_FEATURES
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
        self.__call__ = tf.function(self._answer, input_signature=self.signature)

    def _answer(self, events: Any, facts: Any, mask: Any, causal: Any, user: Any) -> Any:
        told = [self._arrays[f"{name}/kernel"] for name in ("gap", "worth")]
        h = events + tf.matmul(facts, np.concatenate(told)) + self._arrays["gap/bias"]
        for b in range(self._spec.blocks - 1):
            h = self._block(b, h, tf.minimum(mask, causal))
        last = self._last_block(h, mask) if self._spec.blocks else h[:, -1]
        last = self._norm("final_norm", last)
        context = tf.nn.relu(self._dense("user_hidden", tf.concat([last, user], 1)))
        parts = [self._dense(name, context) for name in ("user_out", "popularity", "gate")]
        return tf.concat(parts, 1)

    def _block(self, b: int, h: Any, mask: Any) -> Any:
        x = self._norm(f"block_{b}_norm_1", h)
        for head in range(self._spec.heads_of(b)):
            query, key, value = (self._head(b, part, head, x) for part in ("query", "key", "value"))
            weights = self._attention(tf.matmul(query, key, transpose_b=True), mask)
            h += tf.matmul(tf.matmul(weights, value), self._mixed(b, head))
        h += self._arrays[f"block_{b}_mixed/bias"]
        return h + self._feed_forward(b, h)

    def _last_block(self, h: Any, mask: Any) -> Any:
        b = self._spec.blocks - 1
        x = self._norm(f"block_{b}_norm_1", h)
        last = h[:, -1]
        for head in range(self._spec.heads_of(b)):
            columns = self._columns(head)
            query = self._head(b, "query", head, x[:, -1])
            asked = tf.matmul(query, self._kernel(b, "key")[:, columns].T)
            weights = self._attention(tf.matmul(asked[:, None], x, transpose_b=True), mask)
            mean = tf.matmul(weights, x)[:, 0]
            last += tf.matmul(self._head(b, "value", head, mean), self._mixed(b, head))
        last += self._arrays[f"block_{b}_mixed/bias"]
        return last + self._feed_forward(b, last)

    def _attention(self, scores: Any, mask: Any) -> Any:
        return tf.nn.softmax(scores / math.sqrt(self._spec.size_of_head) + mask)

    def _feed_forward(self, b: int, h: Any) -> Any:
        inner = tf.nn.relu(self._dense(f"block_{b}_inner", self._norm(f"block_{b}_norm_2", h)))
        return self._dense(f"block_{b}_outer", inner)

    def _norm(self, name: str, x: Any) -> Any:
        apart = x - tf.reduce_mean(x, -1, keepdims=True)
        spread = tf.math.rsqrt(tf.reduce_mean(tf.square(apart), -1, keepdims=True) + 1e-5)
        return apart * spread * self._arrays[f"{name}/gamma"] + self._arrays[f"{name}/beta"]

    def _dense(self, name: str, x: Any) -> Any:
        return tf.matmul(x, self._arrays[f"{name}/kernel"]) + self._arrays[f"{name}/bias"]

    def _head(self, b: int, part: str, head: int, x: Any) -> Any:
        columns = self._columns(head)
        bias = self._arrays[f"block_{b}_{part}/bias"][columns]
        return tf.matmul(x, self._kernel(b, part)[:, columns]) + bias

    def _mixed(self, b: int, head: int) -> NDArray[np.float32]:
        return self._kernel(b, "mixed")[self._columns(head)]

    def _kernel(self, b: int, part: str) -> NDArray[np.float32]:
        return np.asarray(self._arrays[f"block_{b}_{part}/kernel"])

    def _columns(self, head: int) -> slice:
        size = self._spec.size_of_head
        return slice(head * size, (head + 1) * size)


def litert(module: EncoderModule, bits: int) -> bytes:
    """The module as a LiteRT model; with 8 bits, weights are int8 and activations are quantised
    as they come, row by row."""
    graph = module.__call__.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], module)
    if bits == 8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())
