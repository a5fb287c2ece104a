"""TensorFlow and Keras 2, imported without the wall of messages about GPUs that are not there.

Native code writes these to file descriptor 2 before any log level can be set; whoever starts an
executor or a rank would read them in every task.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _silent() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


if os.environ.get("ALLUVIUM_TF_MESSAGES"):
    import tensorflow as tf
    import tf_keras as keras
else:
    with _silent():
        import tensorflow as tf
        import tf_keras as keras

        tf.config.list_physical_devices()
    # Each scorer traces its own graph once, which TensorFlow takes for one that is traced anew.
    tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "tf"]
