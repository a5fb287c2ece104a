"""One training step: what is traced, what it is fed, and whom it listens to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import horovod.tensorflow as hvd
import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.bundle import Bundle
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.network import Network
from recsys_lib.model.scorer import spec_of
from recsys_lib.model.tensorflow import tf
from recsys_lib.model.weights import load_arrays
from recsys_lib.train.feed import Batch
from recsys_lib.train.lesson import Lesson
from recsys_lib.train.loss import answers, distillation_loss, mixture_loss, rehearsed, value_loss
from recsys_lib.train.masks import BITS
from recsys_lib.train.reduce import Reducer, added, best_way, looked_up

Signature = dict[str, tf.TensorSpec]
Teacher = tuple[Network, float, bool]
"""A network that is not learned, the weight of its word, and whether it counts on new examples too.
"""


def teacher(lesson: Lesson, catalog: Catalog, parent: Bundle | None) -> Teacher | None:
    """Whose answers are kept: those of the lesson's teacher, else of the parent as it was, which
    count the less, the more is new (ADER)."""
    if lesson.teacher:
        dense = Bundle.load(lesson.teacher).grown(catalog).settled()
        network = Network(spec_of(dense.spec), lesson.seed, half=lesson.train.half)
        load_arrays(network, dense.arrays)
        return network, lesson.train.distillation, True
    if parent is None or not lesson.rehearse or not lesson.train.distils:
        return None
    network = Network(spec_of(parent.spec), lesson.seed, half=lesson.train.half)
    load_arrays(network, parent.arrays)
    known = parent.lineage.get("items", catalog.items) / max(1, catalog.items)
    weight = lesson.train.distillation * math.sqrt(known * min(1.0, lesson.train.rehearsal))
    return network, weight, False


def step_function(
    network: Network,
    built: Any,
    catalog: Catalog,
    lesson: Lesson,
    first: Batch,
    teacher: Teacher | None,
) -> Callable[[list[dict[str, tf.Tensor]], NDArray[np.float32]], tuple[tf.Tensor, tf.Tensor]]:
    """Learns the parts of a batch; `first`: any of the feed. Given this rank's marks [BITS], it
    gives the mean loss of all ranks and the mean of their marks (see masks)."""
    lookups = tf.constant(catalog.lookups)
    stats = tf.constant(catalog.stats.values)
    named = network.variables()
    names, variables = list(named), list(named.values())
    tables = {n: (v.shape[0], v.shape[1]) for n, v in named.items() if n.endswith("/embeddings")}
    looked = looked_up(first["pool"], tables) if hvd.size() > 1 else {}
    ways = {name: best_way(rows, hvd.size()) for name, rows in looked.items()}
    reduce = Reducer(lesson.ranks, ways)

    # Traced once: Horovod pairs all-reduces by names that each trace makes anew, so ranks that
    # retrace at different steps would wait for each other for ever. Neither autograph nor the
    # graph optimiser finds anything to do here, and both take longer than a small increment.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

    def learned(x: dict[str, tf.Tensor]) -> tuple[tf.Tensor, list[Any]]:
        with tf.GradientTape() as tape:
            told = answers(network, x, lookups, stats, training=True)
            loss = mixture_loss(told, x)
            if lesson.train.value_weight:
                loss += lesson.train.value_weight * value_loss(told, x)
            if teacher is not None:
                master, weight, always = teacher
                asked, said = (x, told) if always else rehearsed(x, told)
                right = answers(master, asked, lookups, stats, training=False)
                loss += weight * distillation_loss(right, said, asked)
        return loss, tape.gradient(loss, variables)

    marked = tf.TensorSpec([BITS], tf.float32)
    signature = [[signature_of(first)] * lesson.ranks.passes, marked]

    @tf.function(input_signature=signature, autograph=False)
    def step(parts: list[dict[str, tf.Tensor]], marks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        losses, each = zip(*map(learned, parts), strict=True)
        total = [added(list(gradients)) for gradients in zip(*each, strict=True)]
        used = [place for place, gradient in enumerate(total) if gradient is not None]
        loss = tf.add_n(losses) / len(losses)
        found, norm, mean = reduce(
            [total[place] for place in used],
            [names[place] for place in used],
            tf.concat([loss[None], marks], 0),
        )
        clipped, _ = tf.clip_by_global_norm(found, lesson.train.clip_norm, norm)
        built.apply_gradients(zip(clipped, [variables[place] for place in used], strict=True))
        return mean[0], mean[1:]

    return step


def signature_of(batch: Batch) -> Signature:
    return {
        name: tf.TensorSpec([None] * value.ndim, tf.as_dtype(value.dtype))
        for name, value in batch.items()
    }


def prefetched(batches: Iterator[Batch]) -> tuple[Iterator[dict[str, tf.Tensor]], Batch]:
    """Batches as tensors, made by another thread while a step runs; and the first of them."""
    first = next(batches)

    def again() -> Iterator[Batch]:
        yield first
        yield from batches

    data = tf.data.Dataset.from_generator(again, output_signature=signature_of(first))
    return iter(data.prefetch(4)), first
