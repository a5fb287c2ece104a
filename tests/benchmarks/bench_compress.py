"""What is shipped against the dense SavedModel: time, size, quality.

  make bench-compress [SHORT=1] [ARGS="--run build/demo"]

Takes the last version of a run that was shrunk, or makes such a run of Complete Journey. All forms
answer the same requests by turns in one process with one thread, TURN requests at a time: a server
does not change models after each answer. "p50 / dense, cold" is with turns of one request, where
each form finds what the others left in the caches. Quality is that of windows after the last that
was learned, paired by user. Each row is one step of the way from dense to shipped; `ratios` of the
report are those of the last one, what such a run ships, beside those without shrinking.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from recsys_lib.adapters.folders import resolve
from tests.benchmarks.reporting import FOLDER, table, write_report
from tests.benchmarks.shops import Shop, own_mapping, shops

if TYPE_CHECKING:
    from jobs.context import Context

ITEMS = 68_500
SHORT_HISTORY = 2  # windows
TURN = 20
WINDOWS = 5
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
COLUMNS = [
    "form",
    "p50 ms",
    "p99 ms",
    "p50 / dense",
    "p99 / dense",
    "p50 / dense, cold",
    "batch / dense",
    "MB",
    "size / dense",
    "size / float weights",
    "f1@10",
    "f1 / dense",
    "new: f1@10",
    "new: f1 / dense",
    "top 20 in common",
]


def prepared(run: Path, windows: int) -> Path:
    """Lands the windows after the last that was learned, and says how to read them."""
    from jobs.context import opened, parser

    args = parser("bench").parse_args(["--config", "conf/local.yaml", "--out", str(run)])
    with opened(args, "bench-compress") as context:
        return kept_exam(context, run, windows)


def shrunk_there(run: Path) -> bool:
    """Whether the run has a model that was shrunk, and the wide one that taught it."""
    wide = run.glob("models/window-*.wide")
    return any(folder.with_suffix("").exists() for folder in wide)


def kept_exam(context: Context, run: Path, windows: int) -> Path:
    """The same in a session that is there."""
    import pickle

    from jobs.ingest import ingest, landed
    from jobs.shop import catalog_reader, sequence_rows

    last = context.tracking.versions()[-1].learned
    exams = range(last + 1, last + 1 + windows)
    for window in exams:
        if not landed(context, window):
            ingest(context, range(window, window + 1))
    found = {
        "readers": {window: catalog_reader(context, window, 0) for window in exams},
        "rows": sequence_rows(context, context.lake.version("sequences"), context.settings),
        "task": context.mapping.task,
        "targets": context.mapping.targets,
    }
    target = run / "exam.pkl"
    target.write_bytes(pickle.dumps(found))
    return target


def trained(run: Path) -> None:
    """One increment after the history: the dense model, and the small one that it taught."""
    shop = shops("")["complete_journey"]
    command = ["spark-submit", "jobs/replay.py", "--config", "conf/local.yaml", "--weeks", "1"]
    command += ["--mapping", shop.mapping, "--out", str(run), "--events", shop.events]
    subprocess.run([*command, "--set=compress.shrink=true"], check=True)


def trained_short(run: Path) -> None:
    """The same of a few weeks, without the loop's exams, and the window that judges the forms."""
    from jobs.context import opened, parser
    from jobs.ingest import ingest, staged
    from jobs.train import train

    shop = first_weeks(run, SHORT_HISTORY + 2)
    sets = ["compress.shrink=true", "compress.distil_windows=2", "compress.distil_epochs=1"]
    sets += ["train.min_steps=20", "train.increment_steps=10", "train.epochs=0.5"]
    argv = ["--config", "conf/local.yaml", "--out", str(run), *(f"--set={told}" for told in sets)]
    with opened(parser("bench").parse_args(argv), "bench-compress", shop.mapping) as context:
        plan = staged(context, shop.events, 1)
        first, *_ = plan.landing
        for windows in (range(plan.first, plan.history + 1), range(first, first + 1)):
            ingest(context, windows)
            train(context, windows[-1])
        kept_exam(context, run, 1)


def first_weeks(run: Path, weeks: int) -> Shop:
    """Complete Journey as if it ended then: the log and the plans."""
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    shop = replace(shops("")["complete_journey"], history=SHORT_HISTORY)
    mapping = Path(own_mapping(shop, run))
    told = yaml.safe_load(mapping.read_text(encoding="utf-8"))
    cut = {"events": shop.events, "plans": told["plans"]["path"]}
    for name, path in cut.items():
        whole = ds.dataset(resolve(path))
        cut[name] = str((run / f"{name}.parquet").absolute())
        if not Path(cut[name]).exists():
            pq.write_table(whole.to_table(filter=ds.field("week") <= weeks), f"{cut[name]}.part")
            os.replace(f"{cut[name]}.part", cut[name])
    told["plans"]["path"] = cut["plans"]
    mapping.write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")
    return replace(shop, events=cut["events"], mapping=str(mapping))


def measured(run: Path, short: bool) -> None:
    """In a process of its own, with one thread."""
    import numpy as np

    from recsys_lib.model.bundle import Bundle, manifest_of
    from recsys_lib.model.requests import select
    from recsys_lib.model.tensorflow import tf
    from recsys_lib.settings import load_settings
    from tests.benchmarks.compress_exam import Windows, interval, means, stocked
    from tests.benchmarks.forms import DENSE, SHRUNK, forms

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    exam = Windows.of(run / "exam.pkl")
    wide = max(run.glob("models/window-*.wide"))
    small_folder = str(wide).removesuffix(".wide")
    dense, small = Bundle.load(wide), Bundle.load(small_folder)
    shipped = load_settings("conf/local.yaml").compress
    first, *_ = windows = sorted(exam.readers)
    catalogs = {window: exam.readers[window]() for window in windows}
    asked = exam.histories(first, catalogs[first])
    # Forms of other weights, or made by other settings, are others.
    made = f"{manifest_of(wide)['files']}{manifest_of(Path(small_folder))['files']}{shipped}"
    root = FOLDER / "compress" / hashlib.sha256(made.encode()).hexdigest()[:12]
    ways = forms(dense, small, root, shipped)
    for way in ways:
        way.folder.mkdir(parents=True, exist_ok=True)
        if way.settings is None:
            way.bundle.save(way.folder)
    ways = [way.made(select(asked, np.arange(100))) for way in ways]

    judged = []
    common = {way.name: [] for way in ways}
    for window in windows:
        scorers = [way.opened(catalogs[window]) for way in ways]
        judged.append(exam.judged(window, catalogs[window], scorers))
        some = select(exam.histories(window, catalogs[window]), np.arange(200))
        tops = [scorer.top_k(some, 20)[0] for scorer in scorers]
        for way, top in zip(ways, tops, strict=True):
            pairs = zip(top, tops[0], strict=True)
            common[way.name].append(np.mean([len(np.intersect1d(*p)) / 20 for p in pairs]))
        print(f"window {window}: judged", file=sys.stderr, flush=True)
    quality = {way.name: means(judged, way.name) for way in ways}

    large = stocked(catalogs[first], ITEMS)
    scorers = [way.opened(large) for way in ways]
    requests = 60 if short else 400
    one, cold = (singles(scorers, asked, requests, turn) for turn in (TURN, 1))
    whole = batches(scorers, asked, 1000 if short else 10_000)
    base, rows = quality[ways[0].name], []
    for i, way in enumerate(ways):
        told = quality[way.name]
        ratio = {name: interval(told[name] / base[name]) for name in told}
        rows.append(
            {
                "form": way.name,
                "p50 ms": float(np.median(one[i])) * 1e3,
                "p99 ms": float(np.quantile(one[i], 0.99)) * 1e3,
                "p50 / dense": float(np.median(one[i]) / np.median(one[0])),
                "p99 / dense": float(np.quantile(one[i], 0.99) / np.quantile(one[0], 0.99)),
                "p50 / dense, spread": spread(one[i], one[0]),
                "p50 / dense, cold": float(np.median(cold[i]) / np.median(cold[0])),
                "batch s": float(np.sum(whole[i])),
                "batch / dense": float(np.sum(whole[i]) / np.sum(whole[0])),
                "MB": (way.saved_bytes() or way.bytes()) / 1e6,
                "size / dense": (way.saved_bytes() or way.bytes()) / (ways[0].saved_bytes() or 1),
                "size / float weights": way.bytes() / ways[0].bytes(),
                **{name: float(told[name][0]) for name in told},
                "f1 / dense": ratio["f1@10"][0],
                "new: f1 / dense": ratio["new:f1@10"][0],
                "new: f1@10": float(told["new:f1@10"][0]),
                "against dense, with 95 % intervals": ratio,
                "top 20 in common": float(np.mean(common[way.name])),
            }
        )
    told = {row["form"]: row for row in rows}
    path = write_report(
        "compress",
        short=short,
        data=f"Complete Journey, windows {windows}; times over {ITEMS:,} items",
        settings=shipped.model_dump(mode="json"),
        rows=rows,
        ratios=ratios(told[SHRUNK]),
        ratios_without_shrinking=ratios(told[DENSE]),
    )
    print(table(rows, COLUMNS))
    for form in (DENSE, SHRUNK):
        for name, (value, low, high) in told[form]["against dense, with 95 % intervals"].items():
            print(f"{form} / dense, {name}: {value:.4f} ({low:.4f} to {high:.4f})")
    print(path)
    frontier(rows, path.with_suffix(".png"))


def ratios(row: dict[str, Any]) -> dict[str, float]:
    """What a form is judged by."""
    return {
        "latency_vs_dense": row["p50 / dense"],
        "latency_p99_vs_dense": row["p99 / dense"],
        "latency_cold_vs_dense": row["p50 / dense, cold"],
        "batch_time_vs_dense": row["batch / dense"],
        "size_vs_dense": row["size / dense"],
        "size_vs_float_weights": row["size / float weights"],
        "f1_vs_dense": row["f1 / dense"],
        "f1_new_vs_dense": row["new: f1 / dense"],
    }


def singles(scorers: list[Any], asked: Any, requests: int, turn: int) -> Any:
    """Seconds of single requests, `turn` of them at a time by each form: [form][request]."""
    import numpy as np

    from recsys_lib.model.requests import select

    places = np.random.default_rng(7).permutation(len(asked))
    one = [select(asked, places[i % len(places)][None]) for i in range(requests)]
    for scorer in scorers:
        for request in one[:20]:
            scorer.top_k(request, 20)
    single: list[list[float]] = [[] for _ in scorers]
    for start in range(0, requests, turn):
        for times, scorer in zip(single, scorers, strict=True):
            times += [_seconds(scorer, request) for request in one[start : start + turn]]
    return [np.array(times) for times in single]


def batches(scorers: list[Any], asked: Any, batch: int) -> Any:
    """Seconds of the parts of a batch, by turns: [form][part]."""
    import numpy as np

    from recsys_lib.model.requests import select
    from tests.benchmarks.compress_exam import repeated

    many = repeated(asked, batch)
    for scorer in scorers:  # what is made for a new shape is made once
        scorer.top_k(select(many, np.arange(500)), 20)
    parts: list[list[float]] = [[] for _ in scorers]
    for start in range(0, batch, 500):
        part = select(many, np.arange(start, min(start + 500, batch)))
        for times, scorer in zip(parts, scorers, strict=True):
            times.append(_seconds(scorer, part))
    return [np.array(times) for times in parts]


def _seconds(scorer: Any, histories: Any) -> float:
    started = time.perf_counter()
    scorer.top_k(histories, 20)
    return time.perf_counter() - started


def spread(times: Any, base: Any, parts: int = 5) -> list[float]:
    """The ratio of medians in each fifth of the run: smallest, largest."""
    import numpy as np

    pairs = zip(np.array_split(times, parts), np.array_split(base, parts), strict=True)
    ratios = [float(np.median(t) / np.median(b)) for t, b in pairs]
    return [min(ratios), max(ratios)]


def frontier(rows: list[dict[str, Any]], path: Path) -> None:
    """Quality over latency, one point for each form."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for row in rows:
        axes.scatter(row["p50 ms"], row["f1@10"], s=20 + row["MB"] * 6)
        axes.annotate(row["form"], (row["p50 ms"], row["f1@10"]), fontsize=7)
    axes.set(xscale="log", xlabel="milliseconds for an answer, p50", ylabel="f1@10")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--run", type=Path, help="folder of the run; default: one of its own")
    made.add_argument("--short", action="store_true")
    made.add_argument("--step", choices=["prepare", "measure"])
    args = made.parse_args()
    args.run = args.run or FOLDER / ("compress-short" if args.short else "compress") / "run"
    if args.step == "prepare":
        if args.short and not shrunk_there(args.run):
            trained_short(args.run)
        else:
            prepared(args.run, 1 if args.short else WINDOWS)
    elif args.step == "measure":
        measured(args.run, args.short)
    else:
        if not args.short and not shrunk_there(args.run):
            trained(args.run)
        steps = [] if (args.run / "exam.pkl").exists() else ["prepare"]
        for step in [*steps, "measure"]:
            again = [sys.executable, "-m", "tests.benchmarks.bench_compress", "--step", step]
            again += ["--run", str(args.run), *(["--short"] if args.short else [])]
            subprocess.run(again, check=True, env={**os.environ, **ONE_THREAD})


if __name__ == "__main__":
    main()
