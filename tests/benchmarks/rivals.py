"""The two that are measured on one source: a bare copy by Spark, and landing as users run it."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.context import Context
from jobs.land import feeds_of, land
from tests.benchmarks.events import SCHEMA
from tests.cluster.cluster import Cluster

TOPIC = "events"


class Source(Protocol):
    """Where records come from, one part after the other; both rivals find the same ones."""

    name: str

    def feed(self, lines: DataFrame, part: int) -> None:
        """Make the records of `part` appear. Doing it again makes them appear once."""
        ...

    def stream(self) -> DataFrame:
        """What the bare copy reads: the records' columns."""
        ...


@dataclass(frozen=True)
class Files:
    """JSON lines in a folder, several files a part."""

    context: Context
    files: int
    name: str = "files"

    def feed(self, lines: DataFrame, part: int) -> None:
        folder = Path(str(self.context.settings.files.path))
        made = folder.parent / "made"
        lines.repartition(self.files).write.mode("overwrite").text(str(made))
        folder.mkdir(exist_ok=True)
        for number, file in enumerate(sorted(made.glob("part-*"))):
            os.replace(file, folder / f"{part:04d}-{number}.jsonl")
        shutil.rmtree(made)

    def stream(self) -> DataFrame:
        folder = str(self.context.settings.files.path)
        reader = self.context.spark.readStream.schema(SCHEMA)
        return reader.option("maxFilesPerTrigger", self.files).json(folder)


@dataclass(frozen=True)
class Kafka:
    """A topic of JSON events."""

    context: Context
    name: str = "kafka"

    def feed(self, lines: DataFrame, part: int) -> None:
        settings = self.context.settings.kafka
        writer = lines.write.format("kafka").option("topic", TOPIC)
        writer.option("kafka.bootstrap.servers", settings.servers).save()

    def stream(self) -> DataFrame:
        settings = self.context.settings.kafka
        rows = (
            self.context.spark.readStream.format("kafka")
            .option("kafka.bootstrap.servers", settings.servers)
            .option("subscribe", TOPIC)
            .option("startingOffsets", "earliest")
            .option("maxOffsetsPerTrigger", settings.max_offsets_per_batch)
            .load()
        )
        event = F.from_json(F.col("value").cast("string"), SCHEMA)
        return rows.select(event.alias("event")).select("event.*")


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """A Kafka of our own; its address. Raises ClusterError."""
    cluster = Cluster(folder, "bench")
    cluster.up(["kafka"])
    try:
        yield cluster.addresses()["kafka"]
    finally:
        cluster.down()


def copy(source: Source, context: Context) -> None:
    """What Spark does alone: the stream into one Delta table, to the end of what is there."""
    target = context.out / "copy"
    query = (
        source.stream()
        .writeStream.format("delta")
        .trigger(availableNow=True)
        .option("checkpointLocation", str(target / "_checkpoint"))
        .start(str(target))
    )
    query.awaitTermination()


def landing(source: Source, context: Context) -> Counter[str]:
    """Source to silver: what `spark-submit jobs/land.py --source … --once` does."""
    return land(context, feeds_of(context, source.name))
