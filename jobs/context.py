"""What every job shares: command line, log, settings, session, lake and registry."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path

from pyspark.sql import SparkSession

from recsys_lib.adapters.alone import alone
from recsys_lib.adapters.folders import is_remote
from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.places import place
from recsys_lib.adapters.sources.replay import ReplayFolder
from recsys_lib.adapters.spark import spark_session
from recsys_lib.adapters.tracking import Tracking
from recsys_lib.errors import AlluviumError, SettingsError
from recsys_lib.ingest.axis import Axis, find_axis, kept_axis
from recsys_lib.ingest.recipe import axis_of
from recsys_lib.mapping import Mapping, load_mapping
from recsys_lib.settings import RunSettings, Settings, load_settings
from recsys_lib.types import Place

MAPPING = "what the columns mean; conf/mappings has examples"

log = logging.getLogger("alluvium")
log.addHandler(logging.NullHandler())  # else what comes before the log file goes to the terminal


@dataclass(frozen=True)
class Context:
    """One run folder with everything that works on it."""

    settings: Settings
    mapping: Mapping
    out: Place
    spark: SparkSession
    lake: Lake
    replay: ReplayFolder

    @cached_property
    def tracking(self) -> Tracking:
        """Opened by the first who asks: jobs that only move rows do not wait for MLflow."""
        return Tracking(self.settings.tracking, self.out, self.settings.run.name)

    def axis(self, corrected: Mapping | None = None) -> Axis | None:
        """Where windows begin: as the log was staged, as the first live records had it, or as the
        mapping (or a corrected one) says; None where nothing has fixed it yet."""
        manifest = self.replay.manifest()
        if manifest is not None:
            return axis_of(manifest)
        kept, mapping = kept_axis(self.lake), corrected or self.mapping
        if kept is not None or (mapping.time.period is None and mapping.windows.start is None):
            return kept
        return find_axis(self.spark.range(0), mapping, self.settings.clean.earliest)

    def alone(self, job: str, *, for_ever: bool = False) -> AbstractContextManager[None]:
        """No other job of this machine changes the lake meanwhile. Raises LakeError where one does
        for too long, unless this one may wait `for_ever`."""
        return alone(self.lake.root, job, inf if for_ever else self.settings.lake.wait_seconds)

    def alone_with_models(self, job: str) -> AbstractContextManager[None]:
        """No other job of this machine learns, judges or recommends in this run meanwhile; the lake
        may land. Raises LakeError as `alone` does."""
        return alone(str(self.out / "models"), job, self.settings.lake.wait_seconds)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all jobs have."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--config",
        metavar="YAML",
        help="settings; base.yaml beside it is read first (default: each setting's own default)",
    )
    made.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting"
    )
    usual = RunSettings().out
    made.add_argument(
        "--out", metavar="FOLDER", help=f"run folder (setting run.out; default {usual})"
    )
    return made


def at_least(least: int) -> Callable[[str], int]:
    """For argparse: a whole number that is no less."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
        return int(text)

    return number


def settings_of(args: argparse.Namespace) -> Settings:
    """Settings of the command line. Raises SettingsError."""
    out = {"run": {"out": args.out}} if args.out else {}
    return load_settings(args.config, args.set, out)


@contextmanager
def opened(args: argparse.Namespace, app: str, mapping: str | None = None) -> Iterator[Context]:
    """The run folder of the command line, with a session. The mapping is kept in the folder, so
    only the job that starts a run needs to name it."""
    settings = settings_of(args)
    out = place(settings.run.out)
    if is_remote(out) and settings.tracking.uri is None:
        fault = f"tracking.uri must be an MLflow server where run.out is {out}, got null; set it"
        raise SettingsError("tracking", [fault])
    root = settings.lake.root or str(out / "lake")
    chosen = _kept_mapping(out, mapping, root)
    _log_to(out)
    with spark_session(settings.spark, f"alluvium {app}") as spark:
        yield Context(
            settings=settings,
            mapping=chosen,
            out=out,
            spark=spark,
            lake=Lake(spark, root, settings.lake),
            replay=ReplayFolder(spark, str(out / "landing")),
        )


def run(main: Callable[[list[str]], None]) -> None:
    """Entry point of a job script: an error made on purpose is one message, not a traceback."""
    try:
        main(sys.argv[1:])
    except AlluviumError as error:
        log.error("%s", error)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        full = re.search(r"quota of (\S+) is exceeded[^\n]*", str(error))
        if full is None:
            raise
        told = f"the {full.group(0)}; make room or raise it, then the same command goes on"
        log.error("%s", told)
        print(f"error: {told}", file=sys.stderr)
        sys.exit(2)


def _kept_mapping(out: Place, given: str | None, lake: str) -> Mapping:
    """The run's own. One that was given may be corrected until something has been staged or has
    landed by it."""
    kept = out / "mapping.yaml"
    if given is None:
        if not kept.exists():
            fault = f"{out} must be the folder of a run that was started; name it with --out"
            raise SettingsError("--out", [fault])
        return load_mapping(kept)
    mapping = load_mapping(place(given))
    text = place(given).read_text(encoding="utf-8")
    staged = out / "landing" / "staging" / "_manifest.json"
    begun = staged.exists() or place(f"{lake}/bronze").exists()
    if begun and kept.exists() and load_mapping(kept) != mapping:
        fault = f"{out} was started with another mapping; use it again, or another --out"
        raise SettingsError(str(given), [fault])
    if not (begun and kept.exists()):
        out.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(kept)
    return mapping


def _log_to(out: Place) -> None:
    """A file of the run folder; where that is not on this machine, what the cluster collects."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if isinstance(out, Path):
        out.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(out / "alluvium.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for former in log.handlers:
        former.close()
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers = [handler]
    logging.getLogger("py.warnings").propagate = False
    warnings.simplefilter("default")
