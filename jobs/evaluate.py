"""Score a window before it is learned: every model and baseline, all items ranked.

spark-submit jobs/evaluate.py --config conf/local.yaml --out build/demo --window 27
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pyspark.sql import functions as F

from jobs.context import Context, log, opened, parser, run
from jobs.ingest import check_landed
from jobs.shop import Exam, catalog_reader, model_folder
from recsys_lib.errors import TrackingError
from recsys_lib.evaluate.intervals import Replicates, coverage, replicates, reports
from recsys_lib.evaluate.window import score_window
from recsys_lib.tables import Lake
from recsys_lib.types import EvalReport

APP = "evaluate"


@dataclass(frozen=True)
class Scores:
    """The outcome of one exam. `roles`: candidate, champion, stale_weights -> version."""

    roles: dict[str, int]
    replicates: dict[tuple[int, str, str], Replicates]
    reports: dict[str, EvalReport]
    coverage: dict[str, float]


def evaluate(context: Context, window: int) -> Scores:
    """Let the candidate, the champion and the first model answer for `window`, and the baselines.

    Who sits the exam is written down before it starts, so that a repeated call after a crash
    judges the same versions. Raises SourceError for a window that has not landed, TrackingError
    for one that the champion has learned.
    """
    check_landed(context, window)
    roles = _roles(context, window)
    items = _score(context, window, roles)
    if items is None:
        return Scores(roles, {}, {}, {})
    rows = context.lake.read("metrics").where(F.col("window") == window)
    settings = context.settings.evaluate
    found = replicates(rows, settings, context.settings.run.seed)
    by_scorer = {scorer: report for (_, scorer), report in reports(found, settings).items()}
    covered = {scorer: share for (_, scorer), share in coverage(rows, items).items()}
    if "candidate" in by_scorer:
        version, told = context.tracking.version(roles["candidate"]), by_scorer["candidate"]
        context.tracking.log_scores(version, told, coverage=covered.get("candidate"))
    return Scores(roles, found, by_scorer, covered)


def _score(context: Context, window: int, roles: dict[str, int]) -> int | None:
    """Write the metric sums of the window once; items known at the time, None if nobody came."""
    lake, settings = context.lake, context.settings
    sequences = lake.read("sequences").where(F.col("window") == window)
    if sequences.isEmpty():
        return None
    reader = catalog_reader(context, before=window, windows_back=0)
    # By a name of its own: an exam may be held after that of a later window.
    once: dict[str, Any] = {"app": f"{APP}:{window}", "version": 0}
    if not lake.done("metrics", **once) and not _has_metrics(lake, window):
        names = {f"v{number}": number for number in roles.values()}
        folders = {
            name: model_folder(context, context.tracking.version(number))
            for name, number in names.items()
        }
        mapping = context.mapping
        first = folders[f"v{roles['stale_weights']}"]
        exam = Exam(
            reader,
            folders,
            first,
            mapping.task,
            mapping.targets,
            settings.evaluate,
            settings.model.decay,
        )
        baskets = mapping.task == "next_window"
        scored = score_window(
            sequences,
            exam.scorers,
            exam.requests,
            settings.evaluate,
            new=baskets,
            shelf=exam.shelf,
        )
        by_role = [F.struct(F.lit(role), F.lit(f"v{n}")) for role, n in roles.items()]
        pairs = F.filter(F.array(*by_role), lambda pair: pair["col2"] == F.col("scorer"))
        known = F.transform(pairs, lambda pair: pair["col1"])
        names_of = F.when(F.size(known) > 0, known).otherwise(F.array(F.col("scorer")))
        rows = scored.withColumn("scorer", F.explode(names_of))
        lake.append_once("metrics", rows, partition_by=("window",), **once)
    return len(reader.item_ids())


def _has_metrics(lake: Lake, window: int) -> bool:
    if not lake.exists("metrics"):
        return False
    return not lake.read("metrics").where(F.col("window") == window).isEmpty()


def _roles(context: Context, window: int) -> dict[str, int]:
    path = context.out / "windows" / f"{window:06d}.exam"
    if path.exists():
        return dict(json.loads(path.read_text()))
    versions = [v for v in context.tracking.versions() if v.learned < window]
    champion = context.tracking.champion()
    if champion is None:
        raise TrackingError(
            f"window {window} must have a champion to be judged against, got none; train first"
        )
    if champion.learned >= window:
        raise TrackingError(
            f"window {window} must be one that the champion has not learned, but version "
            f"{champion.version} has learned up to {champion.learned}; evaluate a later window"
        )
    withdrawn = context.tracking.withdrawn()
    able = [champion, *(v for v in versions if v.version not in withdrawn)]
    roles = {
        "candidate": max(able, key=lambda v: v.learned).version,
        "champion": champion.version,
        "stale_weights": versions[0].version,
    }
    (context.out / "windows").mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(roles))
    part.replace(path)
    return roles


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument("--window", type=int, required=True, help="one that has landed")
    args = made.parse_args(argv)
    with opened(args, "evaluate") as context, context.alone_with_models("evaluate"):
        scores = evaluate(context, args.window)
        for name, report in scores.reports.items():
            best = {key: f"{found.value:.4f}" for key, found in report.metrics.items()}
            print(f"{name:20s} {report.users} users {best}")
        if not scores.reports:
            print(f"window {args.window}: nobody could be judged")
        log.info("window %s: scored %s", args.window, list(scores.reports))


if __name__ == "__main__":
    run(main)
