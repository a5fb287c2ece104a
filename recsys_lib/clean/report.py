"""What is in quarantine and why, as a small table for the end of a run."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import functions as F

from recsys_lib.tables import Lake

Counts = Mapping[str, tuple[int, int]]


def by_rule(lake: Lake) -> dict[str, tuple[int, int]]:
    """rule -> (rows that are kept aside, rows whose event is in silver by re-ingest)."""
    if not lake.exists("quarantine"):
        return {}
    rows = lake.read("quarantine")
    done = F.col("reingested").isNotNull() if "reingested" in rows.columns else F.lit(False)
    counted = rows.groupBy("rule").agg(
        F.count_if(~done).alias("aside"), F.count_if(done).alias("settled")
    )
    found = {row["rule"]: (row["aside"], row["settled"]) for row in counted.collect()}
    return dict(sorted(found.items(), key=lambda pair: (-pair[1][0], pair[0])))


def as_table(counts: Counts) -> str:
    """Lines for a terminal; a column for re-ingested rows only where there are some."""
    if not counts:
        return "quarantine: empty"
    settled = any(pair[1] for pair in counts.values())
    head = ("quarantine", "rows", "re-ingested")
    lines = [head, *((rule, f"{a:,}", f"{s:,}") for rule, (a, s) in counts.items())]
    total = [sum(pair[place] for pair in counts.values()) for place in (0, 1)]
    lines = [*lines, ("in all", f"{total[0]:,}", f"{total[1]:,}")]
    names, rows = (max(len(line[place]) for line in lines) for place in (0, 1))
    told = [
        f"{name:<{names}}  {aside:>{rows}}" + (f"  {done:>{len(head[2])}}" if settled else "")
        for name, aside, done in lines
    ]
    return "\n".join(told)
