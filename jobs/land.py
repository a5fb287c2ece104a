"""Land what a live source has: source -> bronze -> silver or quarantine -> items and users.

  spark-submit jobs/land.py --source kafka --mapping MAPPING.yaml --out build/live \\
      --set kafka.servers=HOST:PORT --set kafka.topic=events [--every 60]

--source  kafka   JSON events of a topic            settings kafka.*
          files   CSV, JSON lines, Parquet, or .gz of these, landing in a folder     files.*
          http    GET with start_date, end_date and pages, answered in JSON           http.*
          jdbc    MySQL tables of behaviour, items and users                          jdbc.*

Takes what is there and ends; with --every it comes back after so many seconds, until stopped.
Killed at any moment, the same command goes on where it stopped: no record is lost or lands twice.
Sources may share a lake: the same event from two of them becomes one silver row. Of the jobs that
change one lake only one is at work: others on this machine wait for lake.wait_seconds, then say
so; landings with --every take turns.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from pyspark.sql import DataFrame

from jobs.context import Context, log, opened, parser, run
from jobs.ingest import table_faults
from recsys_lib.adapters.sources.feed import Feed, Land, run_feed
from recsys_lib.adapters.sources.files import fingerprint, read_log
from recsys_lib.adapters.sources.folder import files_feed
from recsys_lib.adapters.sources.http import http_feed
from recsys_lib.adapters.sources.jdbc import jdbc_feed
from recsys_lib.adapters.sources.kafka import kafka_feed
from recsys_lib.catalog.changes import merge_changes
from recsys_lib.catalog.recipe import merge_catalog
from recsys_lib.clean.recipe import READER, clean_increment
from recsys_lib.clean.report import as_table
from recsys_lib.errors import SettingsError
from recsys_lib.ingest.entities import entity_rows
from recsys_lib.ingest.landing import Landing
from recsys_lib.mapping import FROM_SOURCE, TableMapping

SOURCES = ("kafka", "files", "http", "jdbc")


def feeds_of(context: Context, source: str) -> list[tuple[Feed, Land]]:
    """What the source streams, and where it lands: events in bronze, the rest in the catalogue."""
    spark, settings = context.spark, context.settings
    if source == "jdbc":
        return _tables(context)
    feeds: dict[str, Callable[[], Feed]] = {
        "kafka": lambda: kafka_feed(spark, settings.kafka),
        "files": lambda: files_feed(spark, settings.files),
        "http": lambda: http_feed(spark, settings.http),
    }
    return [(feeds[source](), _events(context, source))]


def _tables(context: Context) -> list[tuple[Feed, Land]]:
    """Items and users first, so that events find them."""
    jdbc, mapping = context.settings.jdbc, context.mapping
    mapped = {"items": (jdbc.items, mapping.items), "users": (jdbc.users, mapping.users)}
    found: list[tuple[Feed, Land]] = []
    for name, (table, meaning) in mapped.items():
        if table is None:
            continue
        if meaning is None or meaning.path != FROM_SOURCE:
            wanted = f"jdbc.{name}: the mapping must say what its columns mean: {name}.path: jdbc"
            raise SettingsError("--source jdbc", [wanted])
        found = [*found, (_jdbc(context, table), _changes(context, name, meaning))]
    if jdbc.events is not None:
        found = [*found, (_jdbc(context, jdbc.events), _events(context, "jdbc"))]
    if not found:
        raise SettingsError("--source jdbc", ["one of jdbc.events, items, users must be set"])
    return found


def _jdbc(context: Context, table: str) -> Feed:
    return jdbc_feed(context.spark, context.settings.jdbc, table, _checkpoints(context))


def _events(context: Context, source: str) -> Land:
    settings = context.settings
    landing = Landing(context.lake, source, context.mapping, settings.ingest, settings.clean)
    return landing.land


def _changes(context: Context, name: str, meaning: TableMapping) -> Land:
    """Merged as they come; the column of change tells which one of an id is the latest."""
    lake, updated = context.lake, context.settings.jdbc.updated

    def land(raw: DataFrame, app: str, number: int) -> int:
        told = [meaning.id, *meaning.columns.values(), meaning.updated or updated]
        rows = entity_rows(raw, told)
        merge_changes(lake, name, rows, meaning, updated, app=app, version=number)
        return 0

    return land


def _checkpoints(context: Context) -> str:
    return f"{context.lake.root}/_checkpoints"


def check_tables(context: Context) -> None:
    """Of the shop's tables, which are read after events have landed. Raises SettingsError before
    the first of them has."""
    wrong = [] if context.lake.exists("bronze") else table_faults(context)
    if wrong:
        raise SettingsError(context.mapping.name, wrong)


def land(context: Context, feeds: list[tuple[Feed, Land]]) -> Counter[str]:
    """One pass: everything that is there now, all the way; counts of rows."""
    check_tables(context)
    lake, mapping, settings = context.lake, context.mapping, context.settings
    counts: Counter[str] = Counter(landed=0)
    for feed, sink in feeds:
        log.info("landing from %s %s", feed.source, feed.name)
        counts.update(landed=run_feed(feed, _checkpoints(context), sink))
    log.info("cleaning")
    # Twice where an earlier pass was killed between landing and cleaning: its part, then the rest.
    while lake.next_increment("bronze", READER) is not None:
        cleaned = clean_increment(lake, None, mapping, settings.clean)
        counts.update(silver=cleaned["silver"], quarantine=cleaned["quarantine"])
        counts.update({f"quarantine.{rule}": rows for rule, rows in cleaned["by_rule"].items()})
    log.info("merging the catalogue")
    merge_catalog(lake, None, mapping, lambda path: read_log(context.spark, path), fingerprint)
    log.info("landed: %s", dict(counts))
    return counts


def told(counts: Counter[str]) -> str:
    """What came of a pass: a line, and a table of the rules that rows broke, most of them first."""
    line = ", ".join(f"{name} {counts[name]}" for name in ("landed", "silver", "quarantine"))
    rules = {name.partition(".")[2]: (rows, 0) for name, rows in counts.items() if "." in name}
    ordered = dict(sorted(rules.items(), key=lambda pair: (-pair[1][0], pair[0])))
    return f"{line}\n{as_table(ordered)}" if ordered else line


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument("--source", required=True, choices=SOURCES, help="where records come from")
    made.add_argument("--mapping", required=True, metavar="YAML", help="what their fields mean")
    when = made.add_mutually_exclusive_group()
    when.add_argument("--once", action="store_true", help="take what is there, then end (default)")
    when.add_argument("--every", type=float, metavar="SECONDS", help="come back, until stopped")
    args = made.parse_args(argv)
    with opened(args, "land", args.mapping) as context:
        feeds = feeds_of(context, args.source)
        while True:
            started = time.monotonic()
            with context.alone("land", for_ever=args.every is not None):
                print(told(land(context, feeds)), flush=True)
            if args.every is None:
                break
            time.sleep(max(0.0, started + args.every - time.monotonic()))


if __name__ == "__main__":
    run(main)
