"""Hostile records in micro-batches through Landing -> clean: nothing crashes, all is accounted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.sources.feed import text_record
from recsys_lib.clean.recipe import clean_increment
from recsys_lib.ingest.landing import Landing
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings, IngestSettings
from tests.fuzz.hostile import Line, good_event, json_line, some_lines
from tests.fuzz.parser import MAPPING, shrunk

LINES, BATCHES = 1500, 3


def hostile_batches(spark: SparkSession, folder: Path, seed: int) -> int:
    """Records of one round. Raises AssertionError; what fails is kept in `folder`."""
    dice = Random(seed)
    first = good_event(dice, LINES)  # its fields are the first that are met
    lines = [Line(json_line(first), first), *some_lines(dice, LINES, csv_lines=False)]
    more = {"id": "id"} if dice.random() < 0.5 else {}
    mapping = Mapping.model_validate({**MAPPING, **more})
    lake = folder / f"landing-{seed}"

    def fails(chosen: Sequence[Line]) -> str:
        shutil.rmtree(lake, ignore_errors=True)
        try:
            return account(Lake(spark, str(lake)), chosen, mapping)
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:2000]}"

    why = fails(lines)
    if why:
        few = shrunk(lines, fails)
        kept = folder / f"landing-{seed}.jsonl"
        kept.write_bytes(b"\n".join(line.raw for line in few))
        raise AssertionError(
            f"{fails(few) or why}\n  {len(few)} of {len(lines)} records are enough, in {kept}\n"
            f"  mapping: {mapping.model_dump_json(exclude_none=True)}"
        )
    shutil.rmtree(lake)
    return len(lines)


def account(lake: Lake, lines: Sequence[Line], mapping: Mapping) -> str:
    """What is wrong with what came out; empty where nothing is."""
    settings = CleanSettings()
    landing = Landing(lake, "fuzz", mapping, IngestSettings(max_fields=40), settings)
    _batches(lake, lines, landing.land)
    bronze = lake.read("bronze").count()
    cleaned = clean_increment(lake, None, mapping, settings)
    time = F.date_format("time", "yyyy-MM-dd HH:mm:ss")
    silver = lake.read("silver").select("user", "item", time, "value")
    found = [tuple(row) for row in silver.collect()]  # as many as we wrote: bounded
    reasons = lake.read("quarantine").where("rule IS NOT NULL AND reason IS NOT NULL").count()
    good = [line.good for line in lines if line.good is not None]
    missing = {(e["user"], e["item"], e["at"], float(e["price"])) for e in good} - set(found)
    faults = [f"{len(missing)} good events are not in silver, as {min(missing)}"] if missing else []
    counts = (len(lines), bronze, cleaned["silver"] + cleaned["quarantine"], len(found) + reasons)
    if len(set(counts)) > 1:
        faults += [f"{counts[0]} records in, {counts[1]} in bronze, {counts[2:]} came out"]
    return "; ".join(faults)


def _batches(lake: Lake, lines: Sequence[Line], land: Callable[..., int]) -> None:
    size = -(-len(lines) // BATCHES)
    for number in range(-(-len(lines) // size)):
        part = [(bytearray(line.raw),) for line in lines[number * size : (number + 1) * size]]
        raw = lake.spark.createDataFrame(part, "value binary").repartition(2)
        text = F.col("value").cast("string")
        land(raw.select(*text_record(text, F.lit("fuzz"))), "fuzz", number)
