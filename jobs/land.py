"""Land what a live source has: source -> bronze -> silver or quarantine -> items and users.

  spark-submit jobs/land.py --source kafka --mapping MAPPING.yaml --out build/live \\
      --set kafka.servers=HOST:PORT --set kafka.topic=events [--every 60]

--source  kafka   JSON events of a topic            settings kafka.*
          files   CSV, JSON lines, Parquet, or .gz of these, landing in a folder     files.*
          http    GET with start_date, end_date and pages, answered in JSON           http.*
          jdbc    MySQL tables of behaviour, items and users                          jdbc.*

Takes what is there and ends; with --every it comes back after so many seconds, until stopped.
Killed at any moment, the same command goes on where it stopped: no record is lost or lands twice.
Sources may share a lake, one at a time: the same event from two of them becomes one silver row.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from jobs.context import Context, log, opened, parser, run
from recsys_lib.adapters.sources.feed import Feed, run_feed
from recsys_lib.adapters.sources.files import fingerprint, read_log
from recsys_lib.adapters.sources.kafka import kafka_feed
from recsys_lib.catalog.recipe import merge_catalog
from recsys_lib.clean.recipe import READER, clean_increment
from recsys_lib.ingest.landing import Landing

SOURCES = ("kafka",)


def feed_of(context: Context, source: str) -> Feed:
    spark, settings = context.spark, context.settings
    feeds: dict[str, Callable[[], Feed]] = {"kafka": lambda: kafka_feed(spark, settings.kafka)}
    return feeds[source]()


def land(context: Context, landing: Landing, feed: Feed) -> Counter[str]:
    """One pass: everything that is there now, all the way; counts of rows."""
    lake, mapping, settings = context.lake, context.mapping, context.settings
    counts = Counter(landed=run_feed(feed, f"{lake.root}/_checkpoints", landing.land))
    # Twice where an earlier pass was killed between landing and cleaning: its part, then the rest.
    while lake.next_increment("bronze", READER) is not None:
        cleaned = clean_increment(lake, None, mapping, settings.clean)
        counts.update(silver=cleaned["silver"], quarantine=cleaned["quarantine"])
        counts.update({f"quarantine.{rule}": rows for rule, rows in cleaned["by_rule"].items()})
    merge_catalog(lake, None, mapping, lambda path: read_log(context.spark, path), fingerprint)
    log.info("landed from %s: %s", feed.source, dict(counts))
    return counts


def told(counts: Counter[str]) -> str:
    rules = {name.partition(".")[2]: rows for name, rows in counts.items() if "." in name}
    reasons = ", ".join(f"{rule} {rows}" for rule, rows in sorted(rules.items()))
    parts = [f"{name} {counts[name]}" for name in ("landed", "silver", "quarantine")]
    return ", ".join(parts) + (f" ({reasons})" if reasons else "")


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument("--source", required=True, choices=SOURCES, help="where records come from")
    made.add_argument("--mapping", required=True, metavar="YAML", help="what their fields mean")
    when = made.add_mutually_exclusive_group()
    when.add_argument("--once", action="store_true", help="take what is there, then end (default)")
    when.add_argument("--every", type=float, metavar="SECONDS", help="come back, until stopped")
    args = made.parse_args(argv)
    with opened(args, "land", args.mapping) as context:
        feed = feed_of(context, args.source)
        landing = Landing(
            context.lake,
            feed.source,
            context.mapping,
            context.settings.ingest,
            context.settings.clean,
        )
        while True:
            started = time.monotonic()
            print(told(land(context, landing, feed)), flush=True)
            if args.every is None:
                break
            time.sleep(max(0.0, started + args.every - time.monotonic()))


if __name__ == "__main__":
    run(main)
