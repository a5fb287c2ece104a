"""Recommend with a model version: for everybody in the lake, or for histories that you bring.

  spark-submit jobs/recommend.py --config conf/local.yaml --out build/demo
      20 items for every user into the Delta table `recommendations`

  spark-submit jobs/recommend.py --model models:/alluvium@champion --run build/demo \\
      --histories FILE --k 20 --out FILE.parquet
      one answer per row of FILE (Parquet, JSON lines or CSV) with the columns
        request_id
        items    ordered list of item ids, oldest first
        types    optional list of event types, as long as items
        times    optional list of timestamps (or of epochs or periods, as the mapping has them)
        now      optional decision time; default: the start of the window after the last learned

--model also takes a folder. --run names the run folder whose registry is asked (default: the
setting run.out).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pyspark.sql import functions as F

from jobs.context import Context, log, opened, parser, run, settings_of
from jobs.shop import catalog_reader, model_folder
from recsys_lib.adapters.places import fetch
from recsys_lib.adapters.requests import answer_file
from recsys_lib.adapters.shards import CatalogReader
from recsys_lib.adapters.spark import spark_session
from recsys_lib.adapters.tracking import Tracking
from recsys_lib.errors import SettingsError, TrackingError
from recsys_lib.recommend.histories import ANSWERS, Asking, Clock
from recsys_lib.recommend.slates import Opened, Slates
from recsys_lib.settings import Answering

TABLE = "recommendations"
SCHEMA = "user string, items array<string>, scores array<float>, model_version int, `window` int"


@dataclass(frozen=True)
class OpenModel:
    """Pickled to the executors; loads the bundle there. `shop` None: the bundle's own."""

    folder: str
    form: Answering
    shop: CatalogReader | None = None

    def __call__(self) -> Opened:
        """Once in each process of an executor, however many tasks it runs."""
        if not _OPENED or _OPENED[-1][0] != self:
            _OPENED[:] = [(self, self._opened())]
        return _OPENED[-1][1]

    def _opened(self) -> Opened:
        from recsys_lib.model.opening import open_scorer

        scorer = open_scorer(fetch(self.folder), self.shop() if self.shop else None, form=self.form)
        bundle = scorer.bundle
        shop, clock = bundle.catalog, Clock.of(bundle.lineage)
        return scorer, Asking(shop, clock, bundle.task, bundle.learned, bundle.targets)


_OPENED: list[tuple[OpenModel, Opened]] = []


def recommend(context: Context, window: int) -> int:
    """Slates for everybody, as of the end of `window`, by the champion; users written."""
    lake, tracking = context.lake, context.tracking
    champion = tracking.champion()
    if champion is None:
        raise TrackingError("there must be a champion to recommend with, got none; train first")
    app = f"recommend:v{champion.version}"
    if not lake.done(TABLE, app, window):
        settings = context.settings.recommend
        reader = catalog_reader(context, window + 1, 0)
        exam = _Everybody(
            OpenModel(model_folder(context, champion), settings.form, reader),
            settings.k,
            settings.exclude_seen,
            champion.version,
            window,
        )
        users = lake.read("histories").repartition("user")
        slates = users.mapInArrow(exam.score, SCHEMA)
        lake.append_once(TABLE, slates, app=app, version=window)
    rows = lake.read(TABLE)
    mine = (F.col("window") == window) & (F.col("model_version") == champion.version)
    return rows.where(mine).count()


@dataclass(frozen=True)
class _Everybody:
    """Slates for rows of `histories`: for the next window, or for sessions at their last event."""

    open_model: Callable[[], Opened]
    k: int
    exclude_seen: bool
    version: int
    window: int

    def score(self, batches: Any) -> Any:
        import numpy as np
        import pyarrow as pa

        from recsys_lib.model.requests import whole_histories

        opened: Opened | None = None
        for batch in batches:
            for start in range(0, batch.num_rows, 256):
                rows = batch.slice(start, 256)
                opened = self.open_model() if opened is None else opened
                scorer, asking = opened
                now = self.window + 1 if asking.task == "next_window" else None
                histories = whole_histories(rows, now)
                found, scores = scorer.top_k(histories, self.k, exclude_seen=self.exclude_seen)
                answer = asking.answers(rows.column("user"), found, scores)
                count = answer.num_rows
                yield pa.RecordBatch.from_arrays(
                    [
                        *answer.columns,
                        pa.array(np.full(count, self.version, np.int32)),
                        pa.array(np.full(count, self.window, np.int32)),
                    ],
                    names=["user", "items", "scores", "model_version", "window"],
                )


def score_file(args: Any) -> None:
    """The --histories form: needs a model, not a lake."""
    if not args.out or not args.model:
        raise SettingsError("recommend", ["--histories needs --model and --out FILE"])
    target = args.out
    args.out = args.run
    settings = settings_of(args)
    started = time.monotonic()
    store = Tracking(settings.tracking, Path(settings.run.out), settings.run.name)
    folder = store.local_path(args.model)
    k = args.k or settings.recommend.k
    exclude = settings.recommend.exclude_seen if args.exclude_seen is None else args.exclude_seen
    form = args.form or settings.recommend.form
    slates = Slates(OpenModel(folder, form), k, exclude, settings.recommend.batch_rows)
    Path(target).resolve().parent.mkdir(parents=True, exist_ok=True)
    with spark_session(settings.spark, "alluvium recommend") as spark:
        rows = settings.recommend.batch_rows
        count = answer_file(spark, args.histories, target, slates.of, ANSWERS, rows)
    seconds = time.monotonic() - started
    print(f"{count} requests answered in {seconds:.1f} s by {args.model} -> {target}")


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument("--model", help="models:/NAME@champion, models:/NAME/3 or a folder")
    made.add_argument("--run", metavar="FOLDER", help="run folder with the registry")
    made.add_argument("--histories", metavar="FILE", help="Parquet, JSON lines or CSV")
    made.add_argument(
        "--form", choices=get_args(Answering), help="with --histories (setting recommend.form)"
    )
    made.add_argument("--k", type=int, help="items per answer (setting recommend.k)")
    made.add_argument(
        "--exclude-seen",
        nargs="?",
        const=True,
        default=None,
        type=lambda text: text.lower() in ("true", "yes", "1"),
        help="leave out what the history holds (true or false; setting recommend.exclude_seen)",
    )
    args = made.parse_args(argv)
    if args.histories:
        score_file(args)
        return
    with opened(args, "recommend") as context:
        last = context.lake.read("sequences").agg(F.max("window")).collect()[0][0]
        users = recommend(context, last)
        log.info("recommended for %s users after window %s", users, last)
        print(f"{users} users after window {last} -> {context.lake.path(TABLE)}")


if __name__ == "__main__":
    run(main)
