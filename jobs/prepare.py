"""Close the windows of live sources that their watermarks let, and make features of them.

  spark-submit jobs/prepare.py --config conf/local.yaml --out build/live

Call it as often as you like: what has landed is cleaned at once, but a window becomes features
only when every source is past it by its watermark (clean.watermark). What comes for it afterwards
is late: history of later windows, never a target.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import functions as F

from jobs.context import Context, log, opened, parser, run
from jobs.shop import as_known
from recsys_lib.adapters.sources.files import fingerprint, read_log
from recsys_lib.catalog.plans import merge_plans
from recsys_lib.catalog.recipe import merge_catalog
from recsys_lib.clean.late import closable_window
from recsys_lib.clean.recipe import READER, clean_increment
from recsys_lib.clean.report import as_table, by_rule
from recsys_lib.errors import SourceError
from recsys_lib.features.recipe import prepare_window
from recsys_lib.increment.plan import ends_early, lone_window
from recsys_lib.tables import FEATURES, closed_window


def settle(context: Context) -> dict[int, Any]:
    """Clean all that has landed, then prepare every window that can be closed; its counts."""
    lake, mapping, settings = context.lake, context.mapping, context.settings
    # Twice where an earlier pass was killed between landing and cleaning: its part, then the rest.
    while lake.next_increment("bronze", READER) is not None:
        log.info("cleaned %s", clean_increment(lake, None, mapping, settings.clean))
    due = _due(context)
    merge_catalog(lake, None, mapping, lambda path: read_log(context.spark, path), fingerprint)
    merge_plans(lake, mapping.plans, lambda path: read_log(context.spark, path), fingerprint)
    features, known = settings.features, as_known(context)
    return {window: prepare_window(lake, window, mapping, features, known) for window in due}


def _due(context: Context) -> range:
    """Windows to close now, in order. The first time the whole history is one increment."""
    lake, windows = context.lake, context.mapping.windows
    counted, alone = context.mapping.time.period is not None, max(windows.history, 3)
    clean = context.settings.clean
    last = closable_window(lake, clean, windows.days, counted=counted, alone=alone)
    closed, begun = closed_window(lake), lake.last("vocabulary", FEATURES)
    if closed is None and begun is not None:
        # Killed while the history was closed: its end stays, whatever came since.
        return range(begun, max(begun, last or begun) + 1)
    if last is None:
        return range(0)
    if closed is not None:
        return range(closed + 1, last + 1)
    rows = lake.read("silver").where(F.col("window") <= last).select("window").distinct().collect()
    have = [row["window"] for row in rows]
    early, lone = ends_early(have, windows.history), lone_window(have, windows.history)
    if early is not None:
        raise SourceError(early)
    if lone is not None:
        log.warning("%s", lone)
        print(lone)
    return range(min(have) + windows.history - 1, last + 1)


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    args = made.parse_args(argv)
    with opened(args, "prepare") as context, context.alone("prepare"):
        done = settle(context)
        for window, counts in done.items():
            print(f"window {window}: {counts}")
        if not done:
            print("no window to close yet")
        told = as_table(by_rule(context.lake))
        log.info("%s", told)
        print(told)


if __name__ == "__main__":
    run(main)
