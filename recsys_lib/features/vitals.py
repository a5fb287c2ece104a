"""A few numbers of every window, by which a poisoned one is told from the others."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

FAMILIAR = 4
"""Windows in which an item was taken last if it is a familiar one."""
SCHEMA = (
    "window int, events bigint, users bigint, top_user_share double, "
    "unfamiliar_share double, value_shift double"
)


def vitals(events: DataFrame, counts: DataFrame, windows: tuple[int, int]) -> DataFrame:
    """One row for each of `windows` (first and last) that has events: SCHEMA.

    top_user_share    events of the busiest user, of all events
    unfamiliar_share  of all (user, item) pairs, those of items that nobody took in the FAMILIAR
                      windows before
    value_shift       median over items of log(mean value now / when it was taken last); null
                      where values are unknown

    `events` are silver rows, `counts` rows of `item_counts` from FAMILIAR windows before on.
    """
    inside = F.col("window").between(*windows)
    users = events.where(inside).groupBy("window", "user").agg(F.count(F.lit(1)).alias("n"))
    people = users.groupBy("window").agg(
        F.sum("n").alias("events"),
        F.count(F.lit(1)).alias("users"),
        (F.max("n") / F.sum("n")).alias("top_user_share"),
    )
    taken = counts.groupBy("window", "index").agg(
        F.sum("users").alias("users"),
        (F.sum(F.col("value") * F.col("events")) / F.sum("events")).alias("value"),
    )
    before = Window.partitionBy("index").orderBy("window")
    last = taken.withColumns(
        {"last": F.lag("window").over(before), "last_value": F.lag("value").over(before)}
    ).where(inside)
    known = F.coalesce(F.col("window") - F.col("last") <= FAMILIAR, F.lit(False))
    both = (F.col("value") > 0) & (F.col("last_value") > 0)
    items = last.groupBy("window").agg(
        (F.sum(F.when(known, 0).otherwise(F.col("users"))) / F.sum("users")).alias(
            "unfamiliar_share"
        ),
        F.percentile_approx(F.when(both, F.log(F.col("value") / F.col("last_value"))), 0.5).alias(
            "value_shift"
        ),
    )
    found = people.join(items, "window", "left")
    return found.select(*(part.split()[0] for part in SCHEMA.split(", ")))
