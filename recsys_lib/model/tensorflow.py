"""TensorFlow and Keras 2, imported without the wall of messages about GPUs that are not there."""

from __future__ import annotations

import os

from recsys_lib.model.quiet import silent

if os.environ.get("ALLUVIUM_TF_MESSAGES"):
    import tensorflow as tf
    import tf_keras as keras
else:
    with silent():
        import tensorflow as tf
        import tf_keras as keras

        tf.config.list_physical_devices()
    # Each scorer traces its own graph once, which TensorFlow takes for one that is traced anew.
    tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "tf"]
