"""Bronze -> quarantine and silver for what has arrived, in an order that survives a kill."""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_lib.clean.judge import judged, known_before, looks_around
from recsys_lib.clean.late import late
from recsys_lib.clean.refine import by_item, refined, used
from recsys_lib.clean.split import IN_MEMORY, left_of, repeated_keys, split_checked, suspects
from recsys_lib.clean.statistics import Known, known, summarised
from recsys_lib.errors import LakeError
from recsys_lib.expressions import stamp
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings
from recsys_lib.tables import Lake, closed_window
from recsys_lib.types import Increment

READER = "clean"
ROWS_A_FILE = 250_000  # a small increment shall not leave a file for every core


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


def finish_cleaning(lake: Lake, mapping: Mapping, settings: CleanSettings) -> None:
    """Clean what was opened and not read to its end, if anything."""
    if lake.ledger.position("bronze", READER)[0] is not None:
        clean_increment(lake, None, mapping, settings)


def _write(lake: Lake, fresh: Increment, mapping: Mapping, settings: CleanSettings) -> None:
    """Quarantine first: duplicates are found against silver, which must still be the old one."""
    landed = fresh.to_version
    told = known_before(lake, landed, settings)
    try:
        if lake.done("quarantine", READER, landed):  # killed between the two
            aside = lake.read("quarantine").where(F.col("landed") == landed)
            _write_silver(lake, fresh, left_of(lake.read(fresh), aside), settings, told)
        else:
            _write_both(lake, fresh, mapping, settings, told)
    finally:
        if told is not None:
            told.forget()


def _write_both(
    lake: Lake, fresh: Increment, mapping: Mapping, settings: CleanSettings, told: Known | None
) -> None:
    checked = judged(lake, lake.read(fresh), fresh, mapping, settings, told)
    checked = checked.persist() if looks_around(mapping, settings) else checked
    before = accepted(lake, fresh, mapping)
    found = repeated_keys(checked, before, broadcast=fresh.rows <= IN_MEMORY).persist()
    count = found.count()
    repeated = F.broadcast(found) if count <= IN_MEMORY else found
    odd = suspects(checked, repeated if count else None).persist()
    try:
        split = split_checked(checked, repeated if count else None, odd)
        none = F.lit(None).cast("bigint")  # until the row is re-ingested
        aside = split.rejected.withColumns({"landed": _stamp(fresh), "reingested": none})
        once: dict[str, Any] = {"app": READER, "version": fresh.to_version}
        lake.append_once("quarantine", aside.coalesce(_files(fresh)), **once)
        _write_silver(lake, fresh, split.valid, settings, told)
    finally:
        odd.unpersist()
        found.unpersist()
        checked.unpersist()


def _write_silver(
    lake: Lake, fresh: Increment, valid: DataFrame, settings: CleanSettings, told: Known | None
) -> None:
    landed = fresh.to_version
    valid = valid.withColumns({"late": late(closed_window(lake)), "landed": _stamp(fresh)})
    valid = with_statistics(lake, valid, landed, settings, told).coalesce(_files(fresh))
    lake.append_once("silver", valid, app=READER, version=landed)


def _stamp(fresh: Increment) -> Column:
    return stamp(F.lit(fresh.to_version).cast("bigint"))


def _files(fresh: Increment) -> int:
    return 1 + fresh.rows // ROWS_A_FILE


def with_statistics(
    lake: Lake, valid: DataFrame, landed: int, settings: CleanSettings, before: Known | None
) -> DataFrame:
    """Note what these rows tell of the numbers, and refine them by what was known before."""
    names = used(settings)
    if not names:
        return refined(valid, None, None, settings)
    told = summarised(valid, names, by_item(settings), landed)
    lake.append_once("statistics", told, app=READER, version=landed)
    mine = lake.read("statistics").where(F.col("landed") == landed)
    own = known(mine, by_item=False) if before is None else None
    return refined(valid, before, own, settings)


def _counts(lake: Lake, fresh: Increment) -> dict[str, Any]:
    """Counted from the tables, not from the plan, so that a lost row shows."""
    mine = F.col("landed") == fresh.to_version
    turned = lake.read("quarantine").where(mine).groupBy("rule").count().collect()
    by_rule = {row["rule"]: row["count"] for row in turned}
    silver = lake.written("silver", app=READER, version=fresh.to_version)
    quarantine = sum(by_rule.values())
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


def accepted(lake: Lake, fresh: Increment, mapping: Mapping) -> DataFrame | None:
    """The part of silver that may hold a key of `fresh`; None where there is no silver."""
    if not lake.exists("silver"):
        return None
    silver = lake.read("silver")
    if mapping.id is None and fresh.first_window is not None and fresh.last_window is not None:
        # Without an id of its own a row's key is its content, and that includes its window: only
        # files of these windows need to be looked at, so the cost does not grow with history.
        window = F.col("window")  # null where the rules that want one are off
        silver = silver.where(
            window.between(fresh.first_window, fresh.last_window) | window.isNull()
        )
    return silver
