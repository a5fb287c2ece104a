"""Learn what the champion has not learned yet, on Horovod ranks, and register the version.

  spark-submit jobs/train.py --config conf/local.yaml --out build/demo [--window 27]

Without a champion the first model is trained on the history and promoted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from jobs.context import Context, log, opened, parser, run
from jobs.ingest import check_landed
from jobs.shipping import Shipping, Shrinking, form_of, shrinks, taught
from jobs.shop import (
    catalog_reader,
    last_window,
    model_folder,
    sequence_rows,
    shop_tables,
    strange_increments,
)
from recsys_lib.adapters.places import KeptFile, appended, delivery, fetch
from recsys_lib.adapters.ranks import patient, run_on_ranks, tell
from recsys_lib.compress.widths import Shares
from recsys_lib.errors import SourceError, TrackingError
from recsys_lib.evaluate.gate import judge
from recsys_lib.increment.plan import lesson_windows
from recsys_lib.model.folder import folder_bytes
from recsys_lib.model.shipped.bundle import FOLDER
from recsys_lib.settings import CompressSettings, Settings
from recsys_lib.train.lesson import Lesson
from recsys_lib.types import Form, Increment, ModelVersion

EVER = -(2**31)
"""Before the first window."""


def train(context: Context, window: int) -> ModelVersion | None:
    """A version that has learned up to and including `window`; None where there is no lesson.

    Raises SourceError for a window that has not landed.
    """
    check_landed(context, window)
    done = context.tracking.version_for(window)
    if done is None:
        lesson = _lesson(context, window)
        if lesson is None:
            return None
        _pin(context, window, lesson)
        try:
            lesson, summary = learn_and_ship(context, lesson, context.settings.compress)
            if not summary["examples"]:
                log.warning("window %s: no example to learn from", window)
                return None
            done = _register(context, window, lesson, summary)
        finally:
            if done is None:
                context.lake.unpin(_pinned_by(window))
    if context.tracking.champion() is None:
        context.tracking.promote(done, judge({}, None, context.settings.gate))
    _unpin_superseded(context)
    return done


def learn_and_ship(
    context: Context, lesson: Lesson, settings: CompressSettings
) -> tuple[Lesson, dict[str, Any]]:
    """Learn the lesson and export what came of it: the last lesson there was, and its summary.

    A wide model is shrunk once, in steps, each of which the wide one teaches; the increments after
    that learn at the widths that were left.
    """
    ship = Shipping(
        settings, lesson.rows, lesson.windows, lesson.task, lesson.targets, form_of(lesson)
    )
    if not shrinks(lesson, settings):
        shipped = replace(lesson, finish=ship)
        return shipped, learn(context, shipped)
    steps = Shares.of(settings).steps(settings.steps)
    stage = replace(lesson, folder=f"{lesson.folder}.wide")
    line: tuple[str, ...] = (str(lesson.parent),)
    for number, shares in enumerate(steps, 1):
        small = f"{lesson.folder}.small-{number}"
        shrink = Shrinking(settings, shares, line, lesson.prune, small)
        summary = learn(context, replace(stage, finish=shrink))
        if not summary["examples"]:
            return lesson, summary
        folder = f"{lesson.folder}.step-{number}" if number < len(steps) else lesson.folder
        stage, line = taught(lesson, settings, small, folder), ()
    stage = replace(stage, finish=replace(ship, form="shrunk"))
    return stage, learn(context, stage)


def learn(context: Context, lesson: Lesson) -> dict[str, Any]:
    """Learn the lesson on the ranks, from its checkpoint on if there is one; the first's summary.

    What the ranks print is in `ranks.log` of the run folder, however it ends.
    """
    label = f"window {lesson.windows[1]}: training"
    kept = KeptFile(f"{lesson.folder}.checkpoint")
    with appended(context.out / "ranks.log") as ranks_log:
        summary = run_on_ranks(
            _learn,
            replace(lesson, kept=kept),
            ranks=ranks_for(lesson),
            threads=lesson.train.threads_per_rank,
            timeout=lesson.train.start_seconds,
            log=ranks_log,
            settings=lesson.ranks,
            label=label if context.settings.run.progress else None,
        )
    kept.drop()
    return summary


def ranks_for(lesson: Lesson) -> int:
    """As many as the lesson's rows are worth (`train.rank_rows`), at most `train.ranks`."""
    most, each = lesson.train.ranks, lesson.train.rank_rows
    rows = lesson.rows.count(lesson.windows, most * each)
    return max(1, min(most, -(-rows // each)))


def _pin(context: Context, window: int, lesson: Lesson) -> None:
    """What this version learns from can be read again exactly as it was."""
    for table, version in lesson.lineage["tables"].items():
        context.lake.pin(Increment(table, 0, version + 1), by=_pinned_by(window))


def _unpin_superseded(context: Context) -> None:
    """The champion and the last versions keep their rows; `lake.vacuum` may have the others'."""
    versions = sorted(context.tracking.versions(), key=lambda version: version.version)
    champion = context.tracking.champion()
    last = versions[-context.settings.lake.keep_versions :]
    kept = {_pinned_by(v.learned) for v in (*last, *([champion] if champion else []))}
    all_of_them = {_pinned_by(version.learned) for version in versions}
    for by in sorted(context.lake.pins.by() & all_of_them - kept):
        context.lake.unpin(by)


def _pinned_by(window: int) -> str:
    return f"model of window {window}"


def _learn(lesson: Lesson) -> dict[str, Any]:
    """Runs in the rank; TensorFlow and Horovod are imported there."""
    from recsys_lib.train.loop import learn_increment

    with delivery(lesson.folder) as folder:
        local = replace(
            lesson,
            folder=folder,
            parent=fetch(lesson.parent) if lesson.parent else None,
            teacher=fetch(lesson.teacher) if lesson.teacher else None,
            tell=tell,
            rest=patient,
        )
        return learn_increment(local)


def new_pruner(*args: Any) -> Any:
    from recsys_lib.compress.prune import MagnitudePruner

    return MagnitudePruner(*args)


def _lesson(context: Context, window: int) -> Lesson | None:
    settings, mapping, tracking = context.settings, context.mapping, context.tracking
    champion = tracking.champion()
    strategy = settings.train.strategy
    if champion is not None and strategy == "frozen":
        return None
    parent = None if strategy == "full" else champion
    rows = context.lake.read("sequences")
    first = rows.agg(F.min("window")).collect()[0][0]
    if first is None:
        return None
    windows = (first, window) if parent is None else lesson_windows(parent.learned, window)
    # What the gate has refused once is not learned again with what follows. The history goes by
    # the name of its last window, and was never refused.
    without = [w for w in sorted(strange_increments(context)) if first < w < window]
    inside = rows.where(F.col("window").between(*windows) & ~F.col("window").isin(without))
    if inside.isEmpty():
        return None
    _check_targets(context)
    sequences = context.lake.version("sequences")
    tables = {**shop_tables(context), "sequences": sequences}
    return lesson(
        context,
        windows,
        tables,
        settings,
        parent=model_folder(context, parent) if parent else None,
        folder=str(context.out / "models" / f"window-{window}"),
        lineage={
            "mapping": mapping.name,
            "parent": parent.version if parent else None,
            "windows": list(windows),
            "without": without,
            "tables": tables,
            "time": mapping.time.model_dump(),
            "axis": _axis(context),
            "settings": settings.model_dump(mode="json", exclude={"run": {"out"}}),
        },
    )


def lesson(
    context: Context,
    windows: tuple[int, int],
    tables: dict[str, int],
    settings: Settings,
    *,
    parent: str | None,
    folder: str,
    lineage: dict[str, Any],
) -> Lesson:
    """The windows first..last as `tables` have them, for a child of the bundle in `parent`."""
    rehearses = parent is not None and settings.train.rehearses
    return Lesson(
        windows=windows,
        rehearse=(EVER, windows[0] - 1) if rehearses else None,
        rows=sequence_rows(context, tables["sequences"], settings, lineage.get("without", ())),
        read_catalog=catalog_reader(
            context, windows[1] + 1, settings.features.count_windows, tables, settings
        ),
        parent=parent,
        folder=folder,
        task=context.mapping.task,
        targets=context.mapping.targets,
        model=settings.model,
        train=settings.train,
        prune=settings.prune,
        pruner=new_pruner,
        seed=settings.run.seed,
        lineage=lineage,
        ranks=settings.ranks,
    )


def _check_targets(context: Context) -> None:
    """Before ranks are started for nothing."""
    targets = set(context.mapping.targets)
    words = context.lake.read("vocabulary").where(F.col("kind") == "type").select("id")
    if targets and words.where(F.col("id").isin(*targets)).isEmpty():
        types = [row["id"] for row in words.orderBy("id").limit(10).collect()]
        raise SourceError(
            f"{context.mapping.name}: targets must be event types of the log, got "
            f"{sorted(targets)}, but it has {types}; correct targets or type in the mapping "
            "and start with another --out"
        )


def _axis(context: Context) -> str:
    axis = context.axis()
    return axis.to_json() if axis else "{}"


def _register(
    context: Context, window: int, lesson: Lesson, summary: dict[str, Any]
) -> ModelVersion:
    sparsity, folder = summary["sparsity"], fetch(lesson.folder)
    form: Form = "shrunk" if lesson.teacher else form_of(lesson)
    metrics = {name: summary[name] for name in ("examples", "steps", "seconds", "cpu_seconds")}
    layers = {f"sparsity/{name}": share for name, share in sparsity.items() if name != "total"}
    return context.tracking.log_version(
        window,
        folder,
        parent=lesson.lineage["parent"],
        params={**lesson.lineage["settings"], "tables": lesson.lineage["tables"]},
        metrics={
            **metrics,
            **layers,
            "sparsity": sparsity.get("total", 0.0),
            "parameters": summary["parameters"],
            "bytes": summary["bytes"],
            "serving_bytes": folder_bytes(Path(folder) / FOLDER),
            "loss": summary["loss"][-1][1],
        },
        curves={
            "learning_loss": summary["loss"],
            **_sparsity_curves(summary),
            "validation_loss": summary["validation"],
        },
        tags={
            "windows": f"{lesson.windows[0]}..{lesson.windows[1]}",
            "mapping": context.mapping.name,
            "seed": context.settings.run.seed,
            **{f"delta.{name}": version for name, version in lesson.lineage["tables"].items()},
        },
        vocabulary_version=lesson.lineage["tables"]["vocabulary"],
        form=form,
    )


def _sparsity_curves(summary: dict[str, Any]) -> dict[str, Any]:
    """One of the whole, and one of each layer."""
    curves = dict(summary["sparsity_curves"])
    whole = {"learning_sparsity": curves.pop("total")} if curves else {}
    return {**whole, **{f"learning_sparsity/{name}": curve for name, curve in curves.items()}}


def nothing_prepared(context: Context) -> str:
    """What to run first, of a log or of what lands live."""
    live = "jobs/prepare.py when enough has landed, or jobs/turn.py"
    step = live if context.replay.manifest() is None else "jobs/ingest.py"
    return f"there must be a prepared window to learn, got none; run {step}"


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument("--window", type=int, help="default: the last one that was ingested")
    args = made.parse_args(argv)
    with opened(args, "train") as context, context.alone_with_models("train"):
        window = last_window(context) if args.window is None else args.window
        if window is None:
            raise TrackingError(nothing_prepared(context))
        version = train(context, window)
        if version is None:
            print(f"window {window}: nothing to learn")
        else:
            print(f"{version.uri} has learned up to window {version.learned}")


if __name__ == "__main__":
    run(main)
