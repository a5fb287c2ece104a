"""Which form of a version to ship: what each one costs and loses, as a frontier in MLflow.

  spark-submit jobs/sweep.py --config conf/local.yaml --out build/demo [--version 3] [--widths 0.5]

The version is exported in every form (float or 8-bit tables and encoder, whole or searched shop),
and with --widths also with so much of its heads and neurons, after they were taught by the whole.
Quality is that of the window after the last it learned, all items ranked, paired by user; times
are those of single answers with one thread. Nothing is promoted: the table says what to set.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from pyspark.sql import functions as F
from tqdm import tqdm

from jobs.context import Context, log, opened, parser, run
from jobs.ingest import landed
from jobs.reproduce import lesson_of
from jobs.shipping import Shrinking, taught
from jobs.shop import Exam, catalog_reader
from jobs.train import learn
from recsys_lib.adapters.folders import is_remote
from recsys_lib.compress.sweep import Measured, Shape, chosen, shapes, timed
from recsys_lib.compress.widths import Shares
from recsys_lib.errors import SettingsError, SourceError, TrackingError
from recsys_lib.evaluate.intervals import Replicates, estimate, replicates
from recsys_lib.evaluate.plots import frontier
from recsys_lib.evaluate.window import score_window
from recsys_lib.model.bundle import manifest_of
from recsys_lib.model.folder import folder_bytes
from recsys_lib.model.histories import Histories
from recsys_lib.model.quiet import silent
from recsys_lib.model.shipped.bundle import FOLDER, Shipped
from recsys_lib.settings import Settings, validate
from recsys_lib.types import ModelVersion

ANSWERS = 200
K = 20


def sweep(context: Context, version: ModelVersion, widths: list[float]) -> list[Measured]:
    """Every form, measured; tables and pictures are on the version's run."""
    import recsys_lib.model.tensorflow  # noqa: F401  (first and quietly)

    window = version.learned + 1
    if is_remote(context.out):
        raise SourceError(f"a sweep needs a run folder on a local disk, got {context.out}")
    if not landed(context, window):
        raise SourceError(
            f"window {window} must have landed, because {version.uri} is judged on it; run "
            "jobs/ingest.py or another increment of jobs/replay.py"
        )
    folder = Path(context.tracking.local_path(version))
    made = _widths(context, version, folder, widths)
    asked = shapes(context.settings.compress, widths, manifest_of(folder)["lineage"]["items"])
    hidden = not context.settings.run.progress
    bar = tqdm(asked, desc="exporting", unit="form", file=sys.stderr, leave=False, disable=hidden)
    root, golden = _root(context, version), _golden(context, version)
    forms = {shape: _exported(root, shape, made[shape.share], golden) for shape in bar}
    return _measured(context, window, forms, golden)


def _widths(
    context: Context, version: ModelVersion, folder: Path, widths: list[float]
) -> dict[float, Path]:
    """Share -> model folder; each is learned once, from the whole model."""
    found = {1.0: folder}
    if not widths:
        return found
    lineage = dict(manifest_of(folder)["lineage"])
    settings = validate(Settings, lineage["settings"], f"lineage of {version.uri}", [])
    lesson, compress = lesson_of(context, version, settings, lineage), context.settings.compress
    for share in widths:
        target = _root(context, version) / f"width-{share:g}"
        if not (target / "model.json").exists():
            small = f"{target}.small"
            shares = Shares.even(share)
            Shrinking(compress, shares, (), settings.prune, small)(str(folder))
            told = taught(lesson, compress, small, str(target))
            learn(context, replace(told, teacher=str(folder)))
        found[share] = target
    return found


def _root(context: Context, version: ModelVersion) -> Path:
    return Path(str(context.out)) / "models" / f"sweep-{version.version}"


def _exported(root: Path, shape: Shape, model: Path, golden: Histories) -> Path:
    """A folder of its own for each form, with the form in `serving`; those that are there stay."""
    folder = root / shape.name.replace(", ", "-").replace(" ", "_")
    if not (folder / FOLDER).exists():
        from recsys_lib.compress.export import export
        from recsys_lib.model.bundle import Bundle

        bundle = Bundle.load(model)
        folder.mkdir(parents=True, exist_ok=True)
        with silent():
            export(bundle, folder, shape.settings, golden)
    return folder


def _golden(context: Context, version: ModelVersion) -> Histories:
    """The histories that were shipped with it. Raises TrackingError where nothing was."""
    folder = Path(context.tracking.local_path(version)) / FOLDER
    golden = Shipped.load(folder).golden if folder.exists() else None
    if golden is None:
        raise TrackingError(f"{version.uri} must have been exported, got no {folder}")
    return golden.histories


def _measured(
    context: Context, window: int, forms: dict[Shape, Path], golden: Histories
) -> list[Measured]:
    from recsys_lib.model.shipped.scorer import ShippedScorer

    scores = _scores(context, window, forms)
    scorers = [ShippedScorer.open(folder / FOLDER) for folder in forms.values()]
    times = timed(scorers, golden, ANSWERS, K)
    first = scores[next(iter(forms)).name]
    confidence = context.settings.evaluate.confidence
    return [
        Measured(
            name=shape.name,
            p50=float(np.median(mine)),
            p99=float(np.quantile(mine, 0.99)),
            size=folder_bytes(folder / FOLDER),
            f1=scores[shape.name].value("f1@10"),
            ndcg=scores[shape.name].value("ndcg@10"),
            new_f1=scores[shape.name].value("new:f1@10"),
            loss=estimate(
                1.0 - scores[shape.name].means["f1@10"] / first.means["f1@10"], confidence
            ),
        )
        for (shape, folder), mine in zip(forms.items(), times, strict=True)
    ]


def _scores(context: Context, window: int, forms: dict[Shape, Path]) -> dict[str, Replicates]:
    settings, mapping = context.settings, context.mapping
    exam = Exam(
        reader=catalog_reader(context, before=window, windows_back=0),
        models={shape.name: str(folder) for shape, folder in forms.items()},
        stale="",
        task=mapping.task,
        targets=mapping.targets,
        settings=settings.evaluate,
        decay=settings.model.decay,
    )
    rows = context.lake.read("sequences").where(F.col("window") == window)
    baskets = mapping.task == "next_window"
    told = score_window(rows, exam.opened_models, exam.requests, settings.evaluate, new=baskets)
    found = replicates(told, settings.evaluate, settings.run.seed, slices=False)
    return {scorer: part for (_, scorer, _), part in found.items()}


def as_table(found: list[Measured]) -> str:
    """What was measured, for a terminal."""
    lines = [f"{'form':56s} {'p50 ms':>7} {'p99 ms':>7} {'MB':>6} {'F1@10':>7} {'new':>7}  loss"]
    for form in found:
        loss = f"{form.loss.value:+.2%} ({form.loss.low:+.2%} to {form.loss.high:+.2%})"
        lines.append(
            f"{form.name:56s} {form.p50 * 1e3:7.2f} {form.p99 * 1e3:7.2f} {form.size / 1e6:6.1f} "
            f"{form.f1:7.4f} {form.new_f1:7.4f}  {loss}"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument("--version", type=int, help="number in the registry (default: the champion)")
    made.add_argument(
        "--widths", type=float, nargs="*", default=[], metavar="SHARE", help="as 0.5 0.25"
    )
    args = made.parse_args(argv)
    wrong = [share for share in args.widths if not 0 < share < 1]
    if wrong:
        raise SettingsError("--widths", [f"must be shares between 0 and 1, got {wrong}"])
    with opened(args, "sweep") as context, context.alone_with_models("sweep"):
        tracking = context.tracking
        version = tracking.version(args.version) if args.version else tracking.champion()
        if version is None:
            raise TrackingError("there must be a champion, or a --version; train and promote first")
        found = sweep(context, version, args.widths)
        _, told = chosen(found, context.settings.compress.floor)
        rows = [{**vars(form), "loss": vars(form.loss)} for form in found]
        tracking.log_sweep(version, rows, frontier(found), told)
        log.info("%s: %s", version.uri, told)
        print(f"{as_table(found)}\n{told}")


if __name__ == "__main__":
    run(main)
