"""Quarantine -> silver, after a fix of mapping, settings or code: what is good now lands once.

A quarantine row is settled when its event is in silver; `reingested` then holds the version of
quarantine that was read. What still breaks a rule stays as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.clean.judge import judged, known_before
from recsys_lib.clean.late import late
from recsys_lib.clean.recipe import accepted
from recsys_lib.clean.refine import refined
from recsys_lib.clean.split import IN_MEMORY, repeated_keys, split_checked
from recsys_lib.errors import SourceError
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings
from recsys_lib.tables import Lake, closed_window
from recsys_lib.types import Increment

# Not the table's own name: these readers never come back for what follows, nothing waits for them.
LEDGER = "reingest"
Parse = Callable[[DataFrame], DataFrame]
"""Rows with `payload` and `source` -> bronze rows that carry the same payload, and the key under
which it landed where it has no id of its own."""


@dataclass(frozen=True)
class Selection:
    """Which quarantine rows: of one rule, and if given arrived since (ISO) or of one window."""

    reason: str
    since: str | None = None
    window: int | None = None


def reingest(
    lake: Lake, chosen: Selection, parse: Parse, mapping: Mapping, settings: CleanSettings
) -> dict[str, int]:
    """{"selected": rows, "landed": …, "settled": rows whose event is in silver now, "left": …}.

    Killed anywhere, the same call goes on; another selection may come in between. Raises
    SourceError where the rule has no row.
    """
    reader = _reader(chosen, mapping, settings)
    version, number = _pinned(lake, chosen, reader)
    once: dict[str, Any] = {"app": reader, "version": number}
    asked = _selected(lake.read("quarantine", version=version), chosen)
    parsed = _parsed(asked, parse, mapping)
    if not lake.done("silver", reader, number):
        good = _good(lake, parsed, mapping, settings)
        # Negative: these rows came with no increment of bronze.
        stamp = F.lit(-1 - version).cast("bigint")
        rows = good.withColumns({"late": late(closed_window(lake)), "landed": stamp})
        lake.append_once("silver", rows, **once)
    if not lake.done("quarantine", reader, number):
        there = lake.read("silver").select("key")
        settled = parsed.join(there, "key", "left_semi").select("payload").distinct()
        marks = {"rule": F.lit(chosen.reason), "reingested": F.lit(version).cast("bigint")}
        lake.merge_once(
            "quarantine",
            settled.withColumns(marks),
            on=["payload", "rule"],
            set_={"reingested": "coalesce(old.reingested, new.reingested)"},
            **once,
        )
    counts = _counts(lake, chosen, version)
    lake.ledger.write(Increment(LEDGER, version, version + 1), reader, "read", counts=counts)
    return counts


def _reader(chosen: Selection, mapping: Mapping, settings: CleanSettings) -> str:
    """A name of its own for each question, so that an unfinished one is not taken for another."""
    told = [asdict(chosen), mapping.model_dump(mode="json"), settings.model_dump(mode="json")]
    digest = hashlib.md5(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return f"reingest:{digest[:12]}"


def _pinned(lake: Lake, chosen: Selection, reader: str) -> tuple[int, int]:
    """The version of quarantine that is read, the same after a crash, and how often this was
    asked before."""
    rows = lake.ledger.rows(LEDGER, reader)
    number = sum(row["state"] == "read" for row in rows)
    if rows and rows[-1]["state"] == "open":
        return rows[-1]["from_version"], number
    there = sorted(_rules(lake))
    if chosen.reason not in there:
        wanted = f"quarantine must hold rows of rule {chosen.reason!r} that are not settled"
        raise SourceError(f"{wanted}, got none; it has {', '.join(there) or 'no row at all'}")
    version = lake.version("quarantine")
    lake.ledger.write(Increment(LEDGER, version, version + 1), reader, "open")
    return version, number


def _rules(lake: Lake) -> list[str]:
    if not lake.exists("quarantine"):
        return []
    rows = lake.read("quarantine").where("reingested IS NULL")
    return [row["rule"] for row in rows.select("rule").distinct().collect()]


def _selected(quarantine: DataFrame, chosen: Selection) -> DataFrame:
    rows = quarantine.where((F.col("rule") == chosen.reason) & F.col("reingested").isNull())
    if chosen.since is not None:
        rows = rows.where(F.col("arrived") >= F.lit(chosen.since).cast("timestamp"))
    if chosen.window is not None:
        rows = rows.where(F.col("window") == chosen.window)
    return rows


def _parsed(asked: DataFrame, parse: Parse, mapping: Mapping) -> DataFrame:
    """Bronze rows, one a payload: of records that are equal to the letter one at most can land.

    Where they came from stays as it was, and so does a key that is made of the content.
    """
    kept = ["arrived", "source", *(["key"] if mapping.id is None else [])]
    first = asked.groupBy("payload").agg(*(F.min(name).alias(name) for name in kept))
    return parse(first.select("payload", "source")).drop("source", *kept).join(first, "payload")


def _good(lake: Lake, parsed: DataFrame, mapping: Mapping, settings: CleanSettings) -> DataFrame:
    """What would have been silver had it come now; silver's columns."""
    told = {"rows": F.count(F.lit(1)), "first": F.min("window"), "last": F.max("window")}
    rows, first, last = parsed.agg(*(it.alias(name) for name, it in told.items())).collect()[0]
    now = lake.version("bronze") + 1
    span = Increment("bronze", 0, now, rows=rows, first_window=first, last_window=last)
    before = known_before(lake, now + 1, settings)
    checked = judged(lake, parsed, span, mapping, settings, before)
    there = accepted(lake, span, mapping)
    repeated = repeated_keys(checked, there, broadcast=rows <= IN_MEMORY)
    split = split_checked(checked, repeated)
    return refined(split.valid, before, None, settings)


def _counts(lake: Lake, chosen: Selection, version: int) -> dict[str, int]:
    selected = _selected(lake.read("quarantine", version=version), chosen).count()
    landed = lake.read("silver").where(F.col("landed") == -1 - version).count()
    mine = F.when(F.col("reingested") != version, F.col("reingested"))
    now = lake.read("quarantine").withColumns({"settled": F.col("reingested"), "reingested": mine})
    settled = _selected(now, chosen).where("settled IS NOT NULL").count()
    return {"selected": selected, "landed": landed, "settled": settled, "left": selected - settled}
