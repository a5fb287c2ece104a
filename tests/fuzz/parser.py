"""A file of hostile lines through read_log -> parse -> split: nothing crashes, all is accounted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys_lib.adapters.sources.files import read_log
from recsys_lib.clean.split import check_rows, repeated_keys, split_checked
from recsys_lib.ingest.axis import find_axis
from recsys_lib.ingest.bronze import check_mapping, parse
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings
from tests.fuzz.hostile import COLUMNS, Line, csv_line, good_event, json_line, some_lines

LINES = 2000
BOM = b"\xef\xbb\xbf"
# What makes up an empty line, which is no row: Spark's CSV reader trims all of these.
BLANK = {".csv": bytes(range(33)), ".jsonl": b" \t"}
MAPPING = {
    "name": "fuzz",
    "user": "user",
    "item": "item",
    "time": {"timestamp": "at"},
    "value": "price",
    "windows": {"history": 1, "start": "2026-01-05"},
}


def hostile_round(spark: SparkSession, folder: Path, seed: int) -> int:
    """Rows of one round. Raises AssertionError, its file kept in `folder`, where one is missing."""
    dice = Random(seed)
    as_csv = dice.random() < 0.5
    write, end = (csv_line, "csv") if as_csv else (json_line, "jsonl")
    first = good_event(dice, LINES)  # a log that has nothing good is another matter
    lines = [Line(write(first), first), *some_lines(dice, LINES, as_csv)]
    before = BOM if dice.random() < 0.2 else b""
    before += ",".join(COLUMNS).encode() + b"\n" if as_csv else b""
    with_id, with_start = dice.random() < 0.5, dice.random() < 0.7
    windows = {"history": 1, "start": "2026-01-05"} if with_start else {"history": 1}
    more = {"windows": windows, **({"id": "id"} if with_id else {})}
    mapping = Mapping.model_validate({**MAPPING, **more})
    file = folder / f"seed-{seed}.{end}"

    def fails(chosen: Sequence[Line]) -> str:
        file.write_bytes(before + b"\n".join([*(line.raw for line in chosen), b""]))
        try:
            return account(spark, file, chosen, mapping)
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:2000]}"

    why = fails(lines)
    if why:
        few = shrunk(lines, fails)
        why = fails(few)
        raise AssertionError(
            f"{why}\n  {len(few)} of {len(lines)} lines are enough, they are in {file}\n"
            f"  mapping: {mapping.model_dump_json(exclude_none=True)}"
        )
    file.unlink()
    return len(lines)


def account(spark: SparkSession, file: Path, lines: Sequence[Line], mapping: Mapping) -> str:
    """What is wrong with what came out; empty where nothing is."""
    settings = CleanSettings()
    rows = read_log(spark, str(file))
    check_mapping(rows, mapping)
    axis = find_axis(rows, mapping, settings.earliest)
    bronze = parse(rows, mapping, axis, settings.earliest)
    bronze = bronze.withColumn("arrived", F.current_timestamp()).persist()
    try:
        checked = check_rows(bronze, mapping, settings)
        split = split_checked(checked, repeated_keys(checked, None, broadcast=True))
        wanted = sum(1 for line in lines if line.raw.removeprefix(BOM).strip(BLANK[file.suffix]))
        silver = split.valid.select(
            "user", "item", F.date_format("time", "yyyy-MM-dd HH:mm:ss"), F.col("value")
        )
        found = [tuple(row) for row in silver.collect()]  # as many as we wrote: bounded
        turned = split.rejected.where("rule IS NOT NULL AND reason IS NOT NULL").count()
    finally:
        bronze.unpersist()
    good = [line.good for line in lines if line.good is not None]
    missing = {(e["user"], e["item"], e["at"], float(e["price"])) for e in good} - set(found)
    faults = [f"{len(missing)} good events are not in silver, as {min(missing)}"] if missing else []
    if len(found) + turned != wanted:
        faults += [f"{wanted} lines in, {len(found)} in silver + {turned} in quarantine out"]
    return "; ".join(faults)


def shrunk(
    lines: Sequence[Line], fails: Callable[[Sequence[Line]], str], tries: int = 60
) -> list[Line]:
    """Fewer of these lines that still fail: parts are left out, of half the length each time."""
    kept, size = list(lines), len(lines) // 2
    while size and tries:
        at = 1  # the first line is good, and stays
        while at < len(kept) and tries:
            tries -= 1
            less = kept[:at] + kept[at + size :]
            if fails(less):
                kept = less
            else:
                at += size
        size //= 2
    return kept
