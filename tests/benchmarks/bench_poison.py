"""Poisoned increments of real logs: which of them the gate refuses, and which clean ones.

  make bench-poison [ARGS="--shops online_retail --last 40"]

The last window is landed clean, with random events (a tenth of it), with a bot (100,000 events of
one user), and with every price a hundredfold; its numbers are compared with those of the windows
before it, as the gate compares them. Clean windows that are refused are counted too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.evaluate.anomalies import EARLIER, strange_windows
from recsys_lib.features.counts import item_counts
from recsys_lib.features.recipe import EVENT
from recsys_lib.features.vitals import FAMILIAR, vitals
from tests.benchmarks.courses import Course, landed_courses, options
from tests.benchmarks.reporting import table, write_report
from tests.benchmarks.shops import Landed

COURSES = {"complete_journey": Course(26, 45), "online_retail": Course(20, 45)}
RANDOM, BOT, TIMES = 0.1, 100_000, 100


def poisons(landed: Landed, window: int) -> dict[str, DataFrame]:
    """What comes in: clean, and in three ways not."""
    spark, lake = landed.context.spark, landed.context.lake
    clean = lake.read("silver").where(F.col("window") == window).select(*EVENT)
    like = clean.limit(1).drop("key", "user", "item", "value")
    random = np.random.default_rng(landed.context.settings.run.seed)
    words = lake.read("vocabulary").where("kind = 'item'").select("id").toArrow()
    items = np.asarray(words.column("id"))
    users = np.asarray(clean.select("user").distinct().toArrow().column("user"))
    value = clean.agg(F.percentile_approx("value", 0.5)).collect()[0][0]

    def with_events(who: Any, what: Any) -> DataFrame:
        keys = [f"poison-{n}" for n in range(len(what))]
        made = pd.DataFrame({"key": keys, "user": who, "item": what, "value": float(value)})
        return clean.unionByName(spark.createDataFrame(made).crossJoin(like).select(*EVENT))

    more = int(clean.count() * RANDOM / (1 - RANDOM))
    return {
        "clean": clean,
        f"{RANDOM:.0%} random events": with_events(
            random.choice(users, more), random.choice(items, more)
        ),
        f"one user, {BOT:,} events": with_events("bot", random.choice(items[:200], BOT)),
        f"prices times {TIMES}": clean.withColumn("value", F.col("value") * TIMES),
    }


def measure(landed: Landed, window: int) -> list[dict[str, Any]]:
    """One row for each way in which the window may come."""
    context, first = landed.context, window - EARLIER
    silver = context.lake.read("silver").select(*EVENT)
    earlier = silver.where(F.col("window").between(first - FAMILIAR, window - 1)).persist()
    words = context.lake.read("vocabulary")
    rows = []
    for name, came in poisons(landed, window).items():
        events = earlier.unionByName(came)
        counts = item_counts(events, words, context.mapping.targets)
        found = vitals(events, counts, (first, window)).toArrow().to_pylist()
        strange = strange_windows(found, context.settings.gate)
        rows.append(
            {
                "shop": landed.shop.name,
                "window": window,
                "came": name,
                "refused": "; ".join(strange.get(window, [])) or "no",
                "clean windows refused": len(strange.keys() - {window}),
            }
        )
    return rows


def main() -> None:
    args = options(__doc__, COURSES).parse_args()
    rows: list[dict[str, Any]] = []
    for landed, course, _ in landed_courses(args, "poison", COURSES, COURSES):
        rows += measure(landed, course.last)
    path = write_report(
        "poison",
        short=args.short,
        data=", ".join(dict.fromkeys(row["shop"] for row in rows)),
        settings={},
        rows=rows,
        ratios={},
    )
    print(table(rows, list(rows[0])))
    print(path)


if __name__ == "__main__":
    main()
