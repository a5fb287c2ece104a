"""Land the next windows of a log: raw files -> bronze -> silver or quarantine -> features.

  spark-submit jobs/ingest.py --config conf/local.yaml --out build/demo \\
      --events LOG --mapping MAPPING.yaml [--windows N]

The first call lands the mapping's history as one increment; each window after it is one more.
"""

from __future__ import annotations

from typing import Any

from jobs.context import MAPPING, Context, at_least, log, opened, parser, run
from jobs.shop import as_known
from recsys_lib.adapters.sources.files import fingerprint, identity, read_log
from recsys_lib.adapters.sources.stream import land
from recsys_lib.catalog import attributes, plans
from recsys_lib.catalog.plans import merge_plans
from recsys_lib.catalog.recipe import merge_catalog
from recsys_lib.clean.recipe import READER, clean_increment
from recsys_lib.clean.report import as_table, by_rule
from recsys_lib.errors import SourceError
from recsys_lib.expressions import faults
from recsys_lib.features.recipe import prepare_window
from recsys_lib.increment.plan import Plan, plan
from recsys_lib.ingest.axis import keep_axis
from recsys_lib.ingest.bronze import SCHEMA
from recsys_lib.ingest.recipe import axis_of, stage
from recsys_lib.mapping import FROM_SOURCE
from recsys_lib.tables import closed_window


def staged(context: Context, events: str, increments: int | None) -> Plan:
    """Cut the log by window, once, and say which windows are history and which come after."""

    def read(path: str) -> Any:
        return read_log(context.spark, path)

    clean, begun = context.settings.clean, context.replay.manifest() is not None
    wrong = [] if begun else table_faults(context)
    manifest = stage(context.replay, read, events, context.mapping, clean, identity, wrong)
    keep_axis(context.lake, axis_of(manifest))  # what lands live after the log goes on with it
    return plan(manifest.windows, context.mapping.windows.history, increments)


def table_faults(context: Context) -> list[str]:
    """What is wrong with what the mapping says of the shop's tables, before a row lands."""
    mapping, found = context.mapping, list[str]()
    for name, table in (("items", mapping.items), ("users", mapping.users)):
        if table is not None and table.path not in (None, FROM_SOURCE):
            texts = {f"{name}.{place}": text for place, text in attributes.texts_of(table).items()}
            found = [*found, *_faults_of(context, name, str(table.path), texts)]
    if mapping.plans is not None:
        texts = plans.texts_of(mapping.plans)
        found = [*found, *_faults_of(context, "plans", mapping.plans.path, texts)]
    return found


def _faults_of(context: Context, name: str, path: str, texts: dict[str, str | None]) -> list[str]:
    try:
        rows = read_log(context.spark, path)
    except SourceError as error:
        return [f"{name}.path: {error}"]
    return faults(texts, rows)


def ingest(context: Context, windows: range) -> dict[str, Any]:
    """Take these windows in as one increment, named by the last of them; counts of rows."""
    lake, mapping, settings = context.lake, context.mapping, context.settings
    name = windows[-1]
    context.replay.release(windows)
    land(context.spark, lake, context.replay.inbox, SCHEMA, settings.ingest)
    cleaned = clean_increment(lake, name, mapping, settings.clean)
    merge_catalog(lake, name, mapping, lambda path: read_log(context.spark, path), fingerprint)
    merge_plans(lake, mapping.plans, lambda path: read_log(context.spark, path), fingerprint)
    prepared = prepare_window(lake, name, mapping, settings.features, as_known(context))
    log.info("window %s: landed %s, prepared %s", name, cleaned, prepared)
    return {**cleaned, **prepared}


def landed(context: Context, window: int) -> bool:
    """Whether `window` has gone all the way through."""
    return context.lake.ledger.recorded("silver", "features", window) is not None


def done_with(context: Context, window: int) -> bool:
    """Whether `window` is not to be ingested again: it went all the way, or none of it was good."""
    cleaned = context.lake.ledger.recorded("bronze", READER, window)
    return landed(context, window) or (cleaned is not None and not cleaned["counts"]["silver"])


def check_landed(context: Context, window: int) -> None:
    """Raises SourceError for a window that is still to come: what is decided on it is decided for
    good."""
    last = closed_window(context.lake)
    if last is None or window > last:
        raise SourceError(
            f"window {window} must have landed; the last one is {'none' if last is None else last}"
        )


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument("--events", required=True, help="CSV, JSON lines or Parquet; file or folder")
    made.add_argument("--mapping", required=True, metavar="YAML", help=MAPPING)
    made.add_argument("--windows", type=at_least(1), default=1, help="how many to land (default 1)")
    args = made.parse_args(argv)
    with opened(args, "ingest", args.mapping) as context, context.alone("ingest"):
        found = staged(context, args.events, None)
        parts = [range(found.first, found.history + 1), *(range(w, w + 1) for w in found.landing)]
        manifest = context.replay.manifest()
        full = set(manifest.windows) if manifest else set()
        # A window without a row leaves no trace when it lands: it would be due for ever.
        due = [part for part in parts if full & set(part) and not done_with(context, part[-1])]
        due = due[: args.windows]
        for part in due:
            print(f"window {part[-1]}: {ingest(context, part)}")
        if not due:
            print("nothing left to land")
        told = as_table(by_rule(context.lake))
        log.info("%s", told)
        print(told)


if __name__ == "__main__":
    run(main)
