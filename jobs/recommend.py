"""Recommend with a model version: for everybody in the lake, or for histories that you bring.

  spark-submit jobs/recommend.py --config conf/local.yaml --out build/demo [--k 20]
      20 items for every user, by the champion, into the Delta table `recommendations`; asked again
      with other options, these slates take the place of the former

  spark-submit jobs/recommend.py --model models:/alluvium@champion --run build/demo \\
      --histories FILE --k 20 --out FILE.parquet
      one answer per row of FILE (Parquet, JSON lines or CSV) with the columns
        request_id
        items    ordered list of item ids, oldest first
        types    optional list of event types, as long as items
        times    optional list of timestamps (or of epochs or periods, as the mapping has them)
        values   optional list of what the events were worth
        now      optional decision time; default: the start of the window after the last that landed

--model also takes a folder. --run names the run folder whose registry is asked (default: the
setting run.out). Answers know the shop (items, counts, neighbours, plans) as the run has it today;
with --as-learned, and where the model is a folder, as it was when the version learned.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.context import Context, log, opened, parser, run, settings_of
from jobs.shop import catalog_reader, last_window, model_folder
from jobs.train import EVER, nothing_prepared
from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.places import fetch, place
from recsys_lib.adapters.requests import answer_file, dataset
from recsys_lib.adapters.shards import CatalogReader, ItemShelf
from recsys_lib.adapters.spark import spark_session
from recsys_lib.adapters.tracking import Tracking
from recsys_lib.errors import SettingsError, TrackingError
from recsys_lib.recommend.histories import ANSWERS, Asking, Clock, check_columns
from recsys_lib.recommend.slates import Opened, Slates
from recsys_lib.settings import Answering, Settings

TABLE = "recommendations"
SCHEMA = "user string, items array<string>, scores array<float>, model_version int, `window` int"


@dataclass(frozen=True)
class OpenModel:
    """Pickled to the executors; loads the bundle there. `shop` None: the bundle's own; else what
    the shop is like after the window `last`."""

    folder: str
    form: Answering
    shop: CatalogReader | None = None
    last: int = EVER

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
        last = max(bundle.learned, self.last)
        return scorer, Asking(shop, clock, bundle.task, last, bundle.targets)


_OPENED: list[tuple[OpenModel, Opened]] = []


def recommend(context: Context, window: int) -> int:
    """Slates for everybody, as of the end of `window`, by the champion; users written."""
    lake, tracking = context.lake, context.tracking
    champion = tracking.champion()
    if champion is None:
        raise TrackingError("there must be a champion to recommend with, got none; train first")
    settings = context.settings.recommend
    how = f"form {settings.form}, k {settings.k}, exclude_seen {settings.exclude_seen}"
    shelf = None
    if settings.only_available and lake.exists("items"):
        shelf = ItemShelf(lake.path("items"), lake.version("items"))
        how = f"{how}, items {shelf.version}" if shelf.tells() else how
    if kept(lake, champion.version, window, how) is None:
        reader = catalog_reader(context, window + 1, 0)
        exam = _Everybody(
            OpenModel(model_folder(context, champion), settings.form, reader),
            settings.k,
            settings.exclude_seen,
            champion.version,
            window,
            settings.batch_rows,
            shelf,
        )
        users = lake.read("histories").repartition("user")
        keep(lake, users.mapInArrow(exam.score, SCHEMA), champion.version, window, how)
    mine = kept(lake, champion.version, window)
    return 0 if mine is None else mine.count()


def kept(lake: Lake, version: int, window: int, how: str | None = None) -> DataFrame | None:
    """Slates that this version has for `window`, made as `how` says; None where there are none."""
    if not lake.exists(TABLE):
        return None
    rows = lake.read(TABLE)
    rows = rows.where((F.col("window") == window) & (F.col("model_version") == version))
    if how is not None:
        rows = rows.where(F.col("settings") == how) if "settings" in rows.columns else rows.limit(0)
    return None if rows.isEmpty() else rows


def keep(lake: Lake, slates: DataFrame, version: int, window: int, how: str) -> None:
    """Write slates with `how` they were made; others of this version for `window` are replaced."""
    app, slates = f"recommend:v{version}", slates.withColumn("settings", F.lit(how))
    if kept(lake, version, window) is None:
        lake.append_once(TABLE, slates, app=app, version=window)
    else:
        on, number = ("user", "window", "model_version"), lake.version(TABLE) + 1
        lake.merge_once(TABLE, slates, on=on, app=f"{app}:again", version=number)


@dataclass(frozen=True)
class _Everybody:
    """Slates for rows of `histories`: for the next window, or for sessions at their last event."""

    open_model: Callable[[], Opened]
    k: int
    exclude_seen: bool
    version: int
    window: int
    batch_rows: int
    shelf: ItemShelf | None = None

    def score(self, batches: Any) -> Any:
        import numpy as np
        import pyarrow as pa

        from recsys_lib.model.requests import whole_histories
        from recsys_lib.recommend.shelf import offered

        opened: Opened | None = None
        for batch in batches:
            for start in range(0, batch.num_rows, self.batch_rows):
                rows = batch.slice(start, self.batch_rows)
                if opened is None:
                    opened = self.open_model()
                    ids = opened[1].catalog.ids
                    gone = np.isin(ids, self.shelf.gone() if self.shelf else [])
                scorer, asking = opened
                now = self.window + 1 if asking.task == "next_window" else None
                histories = whole_histories(rows, now)
                found, scores = offered(
                    scorer, histories, self.k, gone, exclude_seen=self.exclude_seen
                )
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
    """The --histories form: needs a model, and a lake only to know today's shop."""
    if not args.out or not args.model:
        raise SettingsError("recommend", ["--histories needs --model and --out FILE"])
    target = args.out
    args.out = args.run
    settings = settings_of(args)
    asked = settings.recommend
    check_columns(dataset(args.histories).schema.names)
    started = time.monotonic()
    open_model = OpenModel(_folder(settings, args.model), asked.form)
    Path(target).resolve().parent.mkdir(parents=True, exist_ok=True)
    with _answering(args, settings, open_model) as (spark, open_model):
        slates = Slates(open_model, asked.k, asked.exclude_seen, asked.batch_rows)
        count = answer_file(spark, args.histories, target, slates.of, ANSWERS, asked.batch_rows)
    seconds = time.monotonic() - started
    shop = f", the shop after window {open_model.last}" if open_model.shop else ""
    print(f"{count} requests answered in {seconds:.1f} s by {args.model}{shop} -> {target}")


@contextmanager
def _answering(
    args: Any, settings: Settings, open_model: OpenModel
) -> Iterator[tuple[SparkSession, OpenModel]]:
    """A session, and the model in today's shop where the run has one."""
    named = args.model.startswith("models:/")
    if args.as_learned or not named or not (place(settings.run.out) / "mapping.yaml").exists():
        with spark_session(settings.spark, "alluvium recommend") as spark:
            yield spark, open_model
        return
    with opened(args, "recommend") as context:
        last = last_window(context)
        if last is not None:
            rows = context.settings.features.count_windows  # as a bundle has, for an earlier `now`
            shop = catalog_reader(context, last + 1, rows)
            open_model = replace(open_model, shop=shop, last=last)
        yield context.spark, open_model


def _folder(settings: Settings, model: str) -> str:
    """Of the model; a registry is asked where there is one, and never made."""
    out = Path(settings.run.out)
    if Path(model).is_dir():
        return model
    if settings.tracking.uri is None and "://" not in model and not (out / "mlflow.db").exists():
        raise TrackingError(
            f"{model} must be a folder, or in the registry of a run, but {out} has none; name the "
            "run folder with --run, or another MLflow with --set tracking.uri=URI"
        )
    return Tracking(settings.tracking, out, settings.run.name).local_path(model)


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument(
        "--model", help="models:/NAME@champion, models:/NAME/3 or a folder; with --histories"
    )
    made.add_argument("--run", metavar="FOLDER", help="run folder with the registry of --model")
    made.add_argument("--histories", metavar="FILE", help="Parquet, JSON lines or CSV")
    made.add_argument(
        "--as-learned",
        action="store_true",
        help="with --histories: know the shop as the version learned it, not as it is today",
    )
    made.add_argument("--form", choices=get_args(Answering), help="setting recommend.form")
    made.add_argument("--k", type=int, help="items per answer (setting recommend.k)")
    made.add_argument(
        "--exclude-seen",
        nargs="?",
        const=True,
        default=None,
        type=_truth,
        metavar="true|false",
        help="leave out what the history holds (setting recommend.exclude_seen)",
    )
    args = _settled(made.parse_args(argv))
    if args.histories:
        score_file(args)
        return
    if args.model or args.run or args.as_learned:
        fault = "--model, --run and --as-learned need --histories FILE; everybody in the lake of "
        fault += "--out is answered by its champion (see jobs/promote.py)"
        raise SettingsError("recommend", [fault])
    with opened(args, "recommend") as context, context.alone_with_models("recommend"):
        last = last_window(context)
        if last is None:
            raise TrackingError(nothing_prepared(context))
        users = recommend(context, last)
        log.info("recommended for %s users after window %s", users, last)
        print(f"{users} users after window {last} -> {context.lake.path(TABLE)}")


def _truth(text: str) -> bool:
    """For argparse: nothing but yes and no."""
    found = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in found:
        raise argparse.ArgumentTypeError(f"must be true or false, got {text!r}")
    return found[text.lower()]


def _settled(args: argparse.Namespace) -> argparse.Namespace:
    """Options that are settings, as such."""
    asked = {name: getattr(args, name) for name in ("form", "k", "exclude_seen")}
    sets = [f"recommend.{name}={value}" for name, value in asked.items() if value is not None]
    return argparse.Namespace(**{**vars(args), "set": [*args.set, *sets]})


if __name__ == "__main__":
    run(main)
