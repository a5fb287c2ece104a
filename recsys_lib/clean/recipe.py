"""Bronze -> quarantine and silver for what has arrived, in an order that survives a kill."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.clean.split import check_rows, repeated_keys, split_checked
from recsys_lib.errors import LakeError
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings
from recsys_lib.tables import Lake
from recsys_lib.types import Increment

READER = "clean"


def clean_increment(
    lake: Lake, window: int | None, mapping: Mapping, settings: CleanSettings
) -> dict[str, Any]:
    """Clean what has landed since the last call, under the name of `window`; counts of rows.

    {"rows": bronze rows, "silver": …, "quarantine": …, "by_rule": {rule: rows}}, where rows =
    silver + quarantine. A window that was cleaned before answers from the ledger; an endless
    source has no window to close (None), so whatever has landed is cleaned.
    """
    closed = None if window is None else lake.ledger.recorded("bronze", READER, window)
    if closed is not None:
        return dict(closed["counts"])
    fresh = lake.next_increment("bronze", READER)
    if fresh is None:
        return {"rows": 0, "silver": 0, "quarantine": 0, "by_rule": {}}
    landed = fresh.to_version
    if not lake.done("silver", READER, landed):
        _write(lake, fresh, mapping, settings)
    counts = _counts(lake, fresh)
    lake.mark_read(fresh, READER, window=window, counts=counts)
    return counts


def _write(lake: Lake, fresh: Increment, mapping: Mapping, settings: CleanSettings) -> None:
    landed = fresh.to_version
    stamp = F.lit(landed).cast("bigint")
    checked = check_rows(lake.read(fresh), mapping, settings)
    repeated = repeated_keys(checked, _accepted(lake, fresh, mapping)).persist()
    try:
        split = split_checked(checked, None if repeated.isEmpty() else repeated)
        # Quarantine first: duplicates are found against silver, which must still be the old one.
        for table, rows in (("quarantine", split.rejected), ("silver", split.valid)):
            stamped = rows.withColumn("landed", stamp)
            lake.append_once(table, stamped, app=READER, version=landed, merge_schema=True)
    finally:
        repeated.unpersist()


def _counts(lake: Lake, fresh: Increment) -> dict[str, Any]:
    """Counted from the tables, not from the plan, so that a lost row shows."""
    mine = F.col("landed") == fresh.to_version
    turned = lake.read("quarantine").where(mine).groupBy("rule").count().collect()
    by_rule = {row["rule"]: row["count"] for row in turned}
    silver, quarantine = lake.read("silver").where(mine).count(), sum(by_rule.values())
    if silver + quarantine != fresh.rows:
        raise LakeError(
            f"bronze rows must all be in silver or quarantine: {fresh.rows} came, {silver} + "
            f"{quarantine} left (increment up to version {fresh.to_version}); keep the lake and "
            "report this"
        )
    return {
        "rows": fresh.rows,
        "silver": silver,
        "quarantine": quarantine,
        "by_rule": dict(sorted(by_rule.items())),
    }


def _accepted(lake: Lake, fresh: Increment, mapping: Mapping) -> DataFrame | None:
    if not lake.exists("silver"):
        return None
    silver = lake.read("silver")
    if mapping.id is None and fresh.first_window is not None and fresh.last_window is not None:
        # Without an id of its own a row's key is its content, and that includes its window: only
        # files of these windows need to be looked at, so the cost does not grow with history.
        silver = silver.where(F.col("window").between(fresh.first_window, fresh.last_window))
    return silver
