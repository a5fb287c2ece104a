"""The rank's training loop: the same code for one rank or many, first model or increment."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import horovod.tensorflow as hvd
import numpy as np
import pyarrow as pa

from recsys_lib.errors import RanksError
from recsys_lib.model.affinity import FEATURES as AFFINITY
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.folder import folder_bytes
from recsys_lib.model.network import Network, Spec
from recsys_lib.model.scorer import spec_of
from recsys_lib.model.tail import Cut
from recsys_lib.model.tensorflow import tf
from recsys_lib.model.weights import load_arrays, named_arrays
from recsys_lib.settings import ModelSettings
from recsys_lib.train.averages import between
from recsys_lib.train.checkpoint import Keeper
from recsys_lib.train.feed import Feed, Reader
from recsys_lib.train.lesson import Lesson
from recsys_lib.train.loss import answers, mixture_loss
from recsys_lib.train.masks import by_layer, check_equal_on_all_ranks, check_marks, marks_of
from recsys_lib.train.optimizers import load_slots, optimizer, paces_of, save_slots
from recsys_lib.train.pace import (
    heads_pace,
    highest_rate,
    kept_share,
    pass_size,
    schedule,
    steps_of,
)
from recsys_lib.train.steps import Signature, prefetched, signature_of, step_function, teacher
from recsys_lib.train.validation import BATCHES, Validation
from recsys_lib.types import Exemplars

Shares = Callable[..., Iterator[pa.RecordBatch]]
"""Rows by rank, ranks and epoch."""
LOOKS = 20
"""At the validation examples, in a lesson that is learned to its end."""


def learn_increment(lesson: Lesson) -> dict[str, Any]:
    """Learn on this rank; the first rank saves the bundle to `lesson.folder`.

    Returns a small summary (equal on every rank but for its waiting times): examples, steps,
    seconds, loss curve, sparsity by variable.
    """
    started = time.monotonic()
    hvd.init()
    _use_own_device(lesson.train.threads_per_rank)
    tf.keras.utils.set_random_seed(lesson.seed)
    material = _material(lesson)
    if not material.examples:
        hvd.shutdown()
        return {"examples": 0}
    student = _student(lesson, material)
    course = _learned(lesson, material, student)
    check_equal_on_all_ranks(course.arrays)
    _check_finite(course.arrays)
    pruner = student.pruner
    sparsity = pruner.sparsity(course.arrays) if pruner else {}
    summary = {
        "examples": material.examples,
        "steps": student.steps,
        "resumed": student.start,
        "ranks": hvd.size(),
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(time.process_time(), 2),
        "stopped": course.stopped,
        "validation": course.validation,
        "loss": course.curve,
        "sparsity": sparsity,
        "sparsity_curves": by_layer(course.sparse),
        "parameters": int(sum(array.size for array in course.arrays.values())),
    }
    on_first_rank(lambda: _save(lesson, material, student, course.arrays, sparsity))
    _total(0.0)  # no rank reports success before the files are there
    hvd.shutdown()
    return {**summary, "bytes": folder_bytes(Path(lesson.folder))}


@dataclass(frozen=True)
class Material:
    """What is learned: `examples` new ones over all ranks, with so many `targets`, of which users
    had so many `repeated` ones before, of the shop that `catalog` tells of."""

    catalog: Catalog
    parent: Bundle | None
    spec: Spec
    feed: Feed
    examples: int
    targets: int
    repeated: int


@dataclass(frozen=True)
class Student:
    """Who learns, and at what pace: `steps` of `size` examples a rank, `passes` to a step, from
    step `start` on."""

    network: Network
    variables: dict[str, tf.Variable]
    optimizer: Any
    rate: tf.Variable
    pruner: Any
    keeper: Keeper
    size: int
    passes: int
    steps: int
    start: int

    @property
    def whole(self) -> int:
        """Examples of a step, over all ranks."""
        return self.size * self.passes * hvd.size()


@dataclass(frozen=True)
class Course:
    """How it went: weights by name, the loss and the sparsity by step, and where it was enough."""

    arrays: dict[str, np.ndarray]
    curve: list[tuple[int, float]]
    sparse: list[tuple[int, dict[str, float]]]
    validation: list[tuple[int, float]]
    stopped: int


def _material(lesson: Lesson) -> Material:
    catalog = lesson.read_catalog()
    parent = Bundle.load(lesson.parent).grown(catalog).settled() if lesson.parent else None
    catalog = parent.catalog if parent else catalog.settled(Cut.of(lesson.model.model_dump()))
    spec = _spec(lesson, catalog, parent)
    feed = Feed(
        catalog=catalog,
        task=lesson.task,
        targets=lesson.targets,
        model=_as_built(lesson.model, spec, parent),
        train=lesson.train,
        seed=lesson.seed + 1000 * hvd.rank(),
        common=lesson.seed,
        affinity=bool(spec.affinity),
        cut=_cut(lesson),
    )
    found = _counted(feed, lesson)
    if not found[0] and feed.cut < math.inf:
        feed = replace(feed, cut=math.inf)
        found = _counted(feed, lesson)
    return Material(catalog, parent, spec, feed, *found)


def _counted(feed: Feed, lesson: Lesson) -> tuple[int, int, int]:
    """Examples, targets and repeated targets over all ranks."""
    examples, targets, repeated = feed.count(_own(_new(lesson)))
    return int(_total(examples)), int(_total(targets)), int(_total(repeated))


def _student(lesson: Lesson, material: Material) -> Student:
    """With the parent's weights, or those of this lesson's last checkpoint; equal on all ranks."""
    parent = material.parent
    size, passes = pass_size(lesson, hvd.size()), lesson.ranks.passes
    whole = size * passes * hvd.size()
    steps = steps_of(lesson, material.examples, material.targets, whole, first=parent is None)
    pruner = _pruner(lesson, parent, steps)
    wrap, half = pruner.wrap if pruner else None, lesson.train.half
    network = Network(material.spec, lesson.seed, wrap, half)
    if parent:
        load_arrays(network, parent.arrays)
    else:
        network.expect_repeats(material.repeated, material.targets)
    rate = tf.Variable(0.0, trainable=False)
    variables = network.variables()
    neurons = material.spec.copy_neurons or material.spec.copy_size
    pace = heads_pace(lesson, steps, material.examples, whole, neurons)
    built = optimizer(lesson.train.optimizer, rate, paces_of(variables, pace))
    slots = parent.optimizer if parent else {}
    load_slots(lesson.train.optimizer, built, variables, slots)
    keeper = Keeper(lesson, network, built, variables)
    start = min(steps - 1, keeper.seen // whole)
    hvd.broadcast_variables([*variables.values(), *built.variables()], root_rank=0)
    if pruner and start:
        pruner.resume(network)
    return Student(network, variables, built, rate, pruner, keeper, size, passes, steps, start)


def _learned(lesson: Lesson, material: Material, student: Student) -> Course:
    """Step by step, until the steps are over or later decisions say that it is enough."""
    feed, network, pruner = material.feed, student.network, student.pruner
    size, passes, steps, start = student.size, student.passes, student.steps, student.start
    first_model = material.parent is None
    share = lesson.train.rehearsal / (1 + lesson.train.rehearsal)
    new, old = _own_or_all(_new(lesson), feed), None
    assert new is not None
    if lesson.rehearse:
        old = _own_or_all(_rehearsed(lesson, material.catalog, material.examples), feed)
    batches, first = prefetched(feed.batches(new, old, size, share, start * passes))
    master = teacher(lesson, material.catalog, material.parent)
    step_fn = step_function(network, student.optimizer, material.catalog, lesson, first, master)
    peak = highest_rate(lesson, steps, student.whole, first=first_model)
    curve = list(student.keeper.curve)
    sparse: list[tuple[int, dict[str, float]]] = []
    watch = _validation(
        lesson, network, material.catalog, feed, signature_of(first), size, steps, bool(pruner)
    )
    for step in range(start, steps):
        student.rate.assign(peak * schedule(step, steps, lesson.train.warmup))
        if pruner:
            pruner.at_step(network, step)
        parts = [next(batches) for _ in range(passes)]
        loss, marks = step_fn(parts, marks_of(network, pruner))
        check_marks(marks.numpy())
        _tell(lesson, step + 1, steps, curve)
        if step % max(1, steps // 100) == 0 or step == steps - 1:
            curve.append((step, float(loss)))
            if pruner:
                sparse.append((step, pruner.sparsity(named_arrays(network))))
        student.keeper.after((step + 1) * student.whole, curve)
        if watch and watch.is_enough(step):
            break
    _rest(lesson)
    arrays = watch.best if watch and watch.best else named_arrays(network)
    if material.parent:
        share = kept_share(lesson, steps, student.whole)
        arrays = between(material.parent.arrays, arrays, share)
    return Course(arrays, curve, sparse, watch.curve if watch else [], step + 1)


def _save(
    lesson: Lesson,
    material: Material,
    student: Student,
    arrays: dict[str, np.ndarray],
    sparsity: dict[str, float],
) -> None:
    catalog, slots = material.catalog, (student.optimizer, student.variables)
    facts = {"sparsity": sparsity.get("total", 0.0), "items": catalog.items}
    Bundle(
        spec=student.network.spec.as_dict(),
        arrays=arrays,
        optimizer=save_slots(lesson.train.optimizer, *slots),
        catalog=catalog,
        task=lesson.task,
        targets=lesson.targets,
        learned=lesson.windows[1],
        decay=lesson.model.decay,
        copy_items=material.feed.model.copy_items,
        lineage={**lesson.lineage, **facts},
    ).save(lesson.folder)
    if lesson.finish:
        lesson.finish(lesson.folder)
    student.keeper.finish()


def _check_finite(arrays: dict[str, np.ndarray]) -> None:
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise RanksError(
            f"weights must be finite numbers, but {broken[0]} and {len(broken) - 1} others are "
            "not: the lesson is not saved and the champion stays; lower train.learning_rate, or "
            "look at the increment's values and times"
        )


def on_first_rank(action: Callable[[], None]) -> None:
    """Files are written once: after an all-reduce every rank holds the same weights."""
    if hvd.rank() == 0:
        action()


def _use_own_device(threads: int) -> None:
    """One GPU per rank where there are any; otherwise this many CPU threads."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.set_visible_devices(gpus[hvd.local_rank() % len(gpus)], "GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _new(lesson: Lesson) -> Shares:
    return partial(lesson.rows.batches, lesson.windows)


def _own(shares: Shares) -> Reader:
    """This rank's share."""

    def own(epoch: int) -> Iterator[pa.RecordBatch]:
        return shares(rank=hvd.rank(), ranks=hvd.size(), epoch=epoch)

    return own


def _rehearsed(lesson: Lesson, catalog: Catalog, examples: int) -> Shares:
    """As many old rows as are mixed into a pass over the new ones, within the budget; of windows
    that the catalogue has statistics of."""
    assert lesson.rehearse is not None
    train, (first, last) = lesson.train, lesson.rehearse
    wanted = min(train.rehearsal_rows, max(train.batch_size, math.ceil(examples * train.rehearsal)))
    choice = Exemplars(max(1, wanted // hvd.size()), train.rehearsal_fading)
    windows = max(first, min(catalog.stats.first, last)), last
    return partial(lesson.rows.exemplars, windows, choice=choice)


def _own_or_all(shares: Shares, feed: Feed) -> Reader | None:
    """This rank's share; all rows where the share holds no example (very small increments); None
    where no rank's does."""

    own = _own(shares)

    def every(epoch: int) -> Iterator[pa.RecordBatch]:
        return shares(rank=0, ranks=1, epoch=epoch)

    return next((reader for reader in (own, every) if feed.has_some(reader)), None)


def _total(value: float) -> float:
    return float(hvd.allreduce(tf.constant(float(value), tf.float64), op=hvd.Sum))


def _cut(lesson: Lesson) -> float:
    """Where on the window axis the decisions begin that are not learned, only looked at."""
    kept = lesson.train.validation_windows
    return lesson.windows[1] + 1 - kept if kept > 0 else math.inf


def _validation(
    lesson: Lesson,
    network: Network,
    catalog: Catalog,
    feed: Feed,
    signature: Signature,
    size: int,
    steps: int,
    prunes: bool,
) -> Validation | None:
    """None where nothing was kept to look at. A pruned lesson is only watched when its sparsity
    is final."""
    if feed.cut == math.inf:
        return None
    later, own = replace(feed, later=True), _own(_new(lesson))
    count, *_ = later.count(own)
    if not _total(count):
        return None
    mine = min(BATCHES, math.ceil(count / size))
    lookups, stats = tf.constant(catalog.lookups), tf.constant(catalog.stats.values)

    @tf.function(input_signature=[signature], autograph=False)
    def loss(x: dict[str, tf.Tensor]) -> tf.Tensor:
        return mixture_loss(answers(network, x, lookups, stats, training=False), x)

    return Validation(
        batches=list(itertools.islice(later.batches(own, None, size, 0.0), mine)) if mine else [],
        loss=lambda batch: float(loss(batch)),
        mean=lambda total, count: _total(total) / _total(count),
        weights=lambda: named_arrays(network),
        every=max(1, steps // LOOKS),
        since=round(lesson.prune.end * steps) if prunes else 0,
        patience=lesson.train.patience,
    )


def _pruner(lesson: Lesson, parent: Bundle | None, steps: int) -> Any:
    """Only fine-tunes prune: the first model learns dense, as its magnitudes mean nothing yet."""
    if parent is None or lesson.pruner is None or not lesson.prune.enabled:
        return None
    start = float(parent.lineage.get("sparsity", 0.0))
    return lesson.pruner(lesson.prune, steps, start)


def _as_built(settings: ModelSettings, spec: Spec, parent: Bundle | None) -> ModelSettings:
    """A network that is there already is fed what it was made for, whatever is set by now; one that
    was shrunk, no more past items than it was left."""
    sizes = {name: getattr(spec, name) for name in ("recent_events", "near_events", "near_items")}
    if parent and spec.copy_neurons:
        sizes["copy_items"] = min(settings.copy_items, parent.copy_items)
    return settings.model_copy(update=sizes)


def _spec(lesson: Lesson, catalog: Catalog, parent: Bundle | None) -> Any:
    if parent:
        return spec_of(parent.spec)
    m = lesson.model.model_dump()
    shared = set(m) & set(Spec.__dataclass_fields__)
    sizes = {name: m[name] for name in shared}
    stats = catalog.stats.values.shape[2]
    shop = {"attributes": catalog.sizes, "profile": catalog.profile, "stats": stats}
    # What makes an item repeated is the user's own past with it, not how it stands in the shop.
    heard = {"copy_stats": stats - catalog.stats.kinds}
    told = {"affinity": len(AFFINITY), "gate_user": True, **heard}
    items = Cut.of(m).size(catalog.items)
    return spec_of({"items": items, "types": len(catalog.types) - 1, **shop, **told, **sizes})


def _tell(lesson: Lesson, step: int, steps: int, curve: list[tuple[int, float]]) -> None:
    if lesson.tell:
        lesson.tell(step, steps, curve[-1][1] if curve and hvd.rank() == 0 else None)


def _rest(lesson: Lesson) -> None:
    if lesson.rest:
        lesson.rest()
