"""One training step: what is traced, what it is fed, how fast it learns, and whom it listens to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import horovod.tensorflow as hvd

from recsys_lib.model.bundle import Bundle
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.network import Network
from recsys_lib.model.scorer import spec_of
from recsys_lib.model.tensorflow import tf
from recsys_lib.model.weights import load_arrays
from recsys_lib.train.feed import Batch
from recsys_lib.train.lesson import Lesson
from recsys_lib.train.loss import answers, distillation_loss, mixture_loss, value_loss

Signature = dict[str, tf.TensorSpec]
Teacher = tuple[Network, float, bool]
"""A network that is not learned, the weight of its word, and whether it counts on new examples too.
"""


def teacher(lesson: Lesson, catalog: Catalog, parent: Bundle | None) -> Teacher | None:
    """Whose answers are kept: those of the lesson's teacher, else of the parent as it was, which
    count the less, the more is new (ADER)."""
    if lesson.teacher:
        dense = Bundle.load(lesson.teacher).grown(catalog)
        network = Network(spec_of(dense.spec), lesson.seed)
        load_arrays(network, dense.arrays)
        return network, lesson.train.distillation, True
    if parent is None or not lesson.rehearse or not lesson.train.distils:
        return None
    network = Network(spec_of(parent.spec), lesson.seed)
    load_arrays(network, parent.arrays)
    known = parent.lineage.get("items", catalog.items) / max(1, catalog.items)
    weight = lesson.train.distillation * math.sqrt(known * min(1.0, lesson.train.rehearsal))
    return network, weight, False


def step_function(
    network: Network,
    built: Any,
    catalog: Catalog,
    lesson: Lesson,
    signature: Signature,
    teacher: Teacher | None,
) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
    attributes = tf.constant(catalog.attributes)
    stats = tf.constant(catalog.stats.values)
    variables = list(network.variables().values())

    # Traced once: Horovod pairs all-reduces by names that each trace makes anew, so ranks that
    # retrace at different steps would wait for each other for ever. Neither autograph nor the
    # graph optimiser finds anything to do here, and both take longer than a small increment.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

    @tf.function(input_signature=[signature], autograph=False)
    def step(x: dict[str, tf.Tensor]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            told = answers(network, x, attributes, stats, training=True)
            loss = mixture_loss(told, x)
            if lesson.train.value_weight:
                loss += lesson.train.value_weight * value_loss(told, x)
            if teacher is not None:
                master, weight, always = teacher
                right = answers(master, x, attributes, stats, training=False)
                rows = tf.ones_like(x["rehearsed"]) if always else x["rehearsed"]
                loss += weight * distillation_loss(right, told, rows)
        tape = hvd.DistributedGradientTape(tape)
        gradients = tape.gradient(loss, variables)
        pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        clipped, _ = tf.clip_by_global_norm([g for g, _ in pairs], lesson.train.clip_norm)
        built.apply_gradients(zip(clipped, [v for _, v in pairs], strict=True))
        return loss

    return step


def prefetched(batches: Iterator[Batch]) -> tuple[Iterator[dict[str, tf.Tensor]], Signature]:
    """Batches as tensors, made by another thread while a step runs."""
    first = next(batches)
    signature = {
        name: tf.TensorSpec([None] * value.ndim, tf.as_dtype(value.dtype))
        for name, value in first.items()
    }

    def again() -> Iterator[Batch]:
        yield first
        yield from batches

    data = tf.data.Dataset.from_generator(again, output_signature=signature)
    return iter(data.prefetch(4)), signature


def schedule(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then a half cosine down to a twentieth."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))
