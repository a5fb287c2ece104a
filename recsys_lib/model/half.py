"""Mixed precision: a layer that multiplies in bfloat16 and keeps all else in float32."""

from __future__ import annotations

from recsys_lib.model.tensorflow import keras, tf


class HalfDense(keras.layers.Dense):  # type: ignore[misc]
    """A dense layer whose product is of bfloat16 numbers; weights, what is added up, and gradients
    of weights are float32 (Micikevicius et al., ICLR 2018).

    bfloat16 has the range of float32, so that no loss has to be scaled, and nothing is hidden that
    -1e9 has hidden.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        halves = tf.cast(inputs, tf.bfloat16), tf.cast(self.kernel, tf.bfloat16)
        out = tf.cast(tf.tensordot(*halves, 1), tf.float32)
        out = tf.nn.bias_add(out, self.bias) if self.use_bias else out
        return self.activation(out)

    def get_prunable_weights(self) -> list[tf.Variable]:
        """Asked for by tensorflow-model-optimization, which knows only layers of Keras itself."""
        return [self.kernel]
