"""The whole loop on a log: land, score, judge, learn, window by window, and report.

  spark-submit jobs/replay.py --events FILE_OR_FOLDER --mapping MAPPING.yaml --out FOLDER
      [--weeks N] [--config conf/local.yaml] [--set section.key=value]

The first model learns the mapping's history; then every window is first the exam of the models
that are there, and then the next increment. Killed at any moment, the same command goes on where
it stopped and ends with the same tables.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from jobs.context import MAPPING, Context, at_least, log, opened, parser, run
from jobs.evaluate import Scores, evaluate
from jobs.ingest import ingest, landed, staged
from jobs.promote import promote
from jobs.recommend import TABLE, recommend
from jobs.train import train
from recsys_lib import __version__
from recsys_lib.errors import SourceError
from recsys_lib.evaluate.intervals import across_windows, estimates, replicates
from recsys_lib.evaluate.report import table, write_report
from recsys_lib.evaluate.summary import RunSummary, WindowSummary, read_windows, write_window
from recsys_lib.increment.plan import Plan, lone_window
from recsys_lib.types import EvalReport

T = TypeVar("T")
EMPTY = "empty window: skipped"
NOTHING = "nothing to learn"


class Stages:
    """Runs the stages of one window under a progress bar, and keeps their seconds."""

    def __init__(self, bar: tqdm[Any], window: int) -> None:
        self.seconds: dict[str, float] = {}
        self._bar, self._window = bar, window

    def __call__(self, name: str, action: Callable[[], T]) -> T:
        self._bar.set_description(f"window {self._window}: {name}")
        log.info("window %s: %s", self._window, name)
        started = time.monotonic()
        try:
            return action()
        finally:
            self.seconds[name] = round(time.monotonic() - started, 2)
            self._bar.update(1)


def history(context: Context, found: Plan, stages: Stages) -> WindowSummary:
    """Land the history and learn the first model."""
    windows = range(found.first, found.history + 1)
    counts = stages("ingest", lambda: ingest(context, windows))
    learned = stages("train", lambda: train(context, found.history))
    if learned is None:
        manifest = context.replay.manifest()
        lone = lone_window(manifest.windows if manifest else (), context.mapping.windows.history)
        raise SourceError(
            lone
            or f"windows {found.first} to {found.history} must hold users with something before a "
            f"decision and {_targets(context)} after it, got none; lengthen windows.history, look "
            f"at targets, or at the quarantine: {counts.get('by_rule') or 'empty'}"
        )
    return _summary(context, found.history, counts, stages, learned=learned.version)


def _targets(context: Context) -> str:
    return (
        f"one of the targets {list(context.mapping.targets)}"
        if context.mapping.targets
        else ("something")
    )


def increment(context: Context, window: int, stages: Stages, *, learn: bool) -> WindowSummary:
    """Land one window, let it judge the models, then learn it."""
    counts = stages("ingest", lambda: ingest(context, range(window, window + 1)))
    if not counts.get("events"):
        return _summary(context, window, counts, stages, note=EMPTY)
    scores = stages("score", lambda: evaluate(context, window))
    verdict = stages("judge", lambda: promote(context, window, scores))
    learned = stages("train", lambda: train(context, window)) if learn else None
    notes = [] if scores.reports else ["nobody to judge"]
    notes = [*notes, NOTHING] if learn and learned is None else notes
    summary = _summary(
        context,
        window,
        counts,
        stages,
        scores=scores,
        learned=learned.version if learned else None,
        note=", ".join(notes),
    )
    return replace(summary, verdict=verdict)


def _summary(
    context: Context,
    window: int,
    counts: dict[str, Any],
    stages: Stages,
    *,
    scores: Scores | None = None,
    learned: int | None = None,
    note: str = "",
) -> WindowSummary:
    return WindowSummary(
        window=window,
        rows=counts.get("rows", 0),
        kept=counts.get("silver", 0),
        quarantined=counts.get("by_rule", {}),
        items=counts.get("new_items", 0),
        users=counts.get("users", 0),
        reports=scores.reports if scores else {},
        coverage=scores.coverage if scores else {},
        candidate=scores.roles["candidate"] if scores else None,
        champion=scores.roles["champion"] if scores else None,
        learned=learned,
        model=_size(context, learned, stages.seconds),
        seconds=stages.seconds,
        note=note,
    )


def _size(context: Context, number: int | None, seconds: dict[str, float]) -> dict[str, float]:
    """What the version weighs; its run gets the seconds that led to it."""
    if number is None:
        return {}
    version = context.tracking.version(number)
    context.tracking.log_seconds(version, seconds)
    found = context.tracking.metrics_of(version)
    return {name: found[name] for name in ("sparsity", "bytes", "parameters") if name in found}


def finish(context: Context, started: float) -> RunSummary:
    """Means over all windows, the report, and what to look at next."""
    windows = read_windows(context.out)
    champion = context.tracking.champion()
    summary = RunSummary(
        name=context.settings.run.name,
        data=context.mapping.name,
        windows=windows,
        overall=_overall(context),
        champion=champion.version if champion else None,
        metric=headline(context.mapping.task, context.settings.evaluate.ks),
        settings=context.settings.model_dump(mode="json", exclude={"run": {"out"}}),
        versions={
            "alluvium": __version__,
            **{name: version(name) for name in ("pyspark", "horovod", "mlflow")},
        },
    )
    write_report(summary, context.out)
    log.info("done in %.0f s", time.monotonic() - started)
    return summary


def headline(task: str, ks: tuple[int, ...]) -> str:
    """The metric that a task is told by, at a depth that is measured."""
    return "f1@10" if task == "next_window" else "mrr@20" if 20 in ks else "mrr@10"


def _overall(context: Context) -> dict[str, EvalReport]:
    if not context.lake.exists("metrics"):
        return {}
    settings, seed = context.settings.evaluate, context.settings.run.seed
    whole = replicates(context.lake.read("metrics"), settings, seed, slices=False).values()
    names = dict.fromkeys(part.scorer for part in whole)
    means = {n: across_windows(part for part in whole if part.scorer == n) for n in names}
    return {
        name: EvalReport(name, mean.window, mean.users, estimates(mean, settings.confidence))
        for name, mean in means.items()
    }


def _farewell(context: Context, summary: RunSummary) -> None:
    out = context.out
    shown = _relative(out)
    print(f"\n{summary.metric} by window, scored before learning\n\n{table(summary)}\n")
    print(f"report   {shown}/report.html, {shown}/report.json")
    print(f"tables   {shown}/lake ({TABLE}: 20 for every user, with the model's version)")
    print(f"versions {_mlflow(context, shown)}")
    print(
        f"score    spark-submit jobs/recommend.py --run {shown} --histories FILE --k 20 "
        f"--model models:/{summary.name}@champion --out ANSWERS.parquet"
    )


def _mlflow(context: Context, shown: str) -> str:
    uri = context.settings.tracking.uri or f"sqlite:///{shown}/mlflow.db"
    return uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"


def _relative(path: Any) -> str:
    inside = isinstance(path, Path) and path.is_relative_to(Path.cwd())
    return str(path.relative_to(Path.cwd()) if inside else path)


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument("--events", required=True, help="CSV, JSON lines or Parquet; file or folder")
    made.add_argument("--mapping", required=True, metavar="YAML", help=MAPPING)
    made.add_argument(
        "--weeks",
        "--windows",
        type=at_least(0),
        metavar="N",
        help="increments to learn (default: all that the log holds)",
    )
    args = made.parse_args(argv)
    started = time.monotonic()
    with (
        opened(args, "replay", args.mapping) as context,
        context.alone("replay"),
        context.alone_with_models("replay"),
    ):
        found = staged(context, args.events, args.weeks)
        there = len(found.increments)
        if (args.weeks or 0) > there:
            log.warning("--weeks %s: the log holds %s windows after its history", args.weeks, there)
            print(f"--weeks {args.weeks}: the log holds {there} windows after its history")
        steps = 2 + 4 * len(found.increments) + (3 if found.judge is not None else 0) + 2
        hidden = not context.settings.run.progress
        with tqdm(total=steps, disable=hidden, file=sys.stderr, dynamic_ncols=True) as bar:
            _run_windows(context, found, bar)
            last = found.increments[-1] if found.increments else found.history
            stages = Stages(bar, last)
            stages("recommend", lambda: recommend(context, _last_landed(context, found)))
            summary = stages("report", lambda: finish(context, started))
            bar.set_description("done")
        _farewell(context, summary)


def _run_windows(context: Context, found: Plan, bar: tqdm[Any]) -> None:
    done = {summary.window: summary for summary in read_windows(context.out)}
    if found.history not in done:
        write_window(history(context, found, Stages(bar, found.history)), context.out)
    else:
        bar.update(2)
    for window in found.landing:
        learn = window != found.judge
        if window in done and not (learn and _only_judged(done[window])):
            bar.update(4 if learn else 3)
            continue
        summary = increment(context, window, Stages(bar, window), learn=learn)
        write_window(summary, context.out)


def _only_judged(summary: WindowSummary) -> bool:
    """The last window of a run with fewer --weeks was not learned then; now it is."""
    tried = EMPTY in summary.note or NOTHING in summary.note
    return summary.learned is None and not tried


def _last_landed(context: Context, found: Plan) -> int:
    return max(w for w in (found.history, *found.landing) if landed(context, w))


if __name__ == "__main__":
    run(main)
