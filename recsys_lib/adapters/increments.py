"""The rows of an increment: which files hold them, how many they are, when they happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_lib.adapters.commits import DataFile, appended_files, moment, rows_of, span_of
from recsys_lib.adapters.folders import file_system, literal
from recsys_lib.adapters.pins import Pins
from recsys_lib.errors import LakeError
from recsys_lib.types import Increment


class IncrementRows:
    """Of the tables under `root`."""

    def __init__(self, spark: SparkSession, root: str, pins: Pins) -> None:
        self.spark, self.root, self.pins = spark, root, pins

    def files(self, increment: Increment) -> list[DataFile]:
        """By its pin, else by the log. Raises LakeError."""
        pinned = self.pins.files(increment)
        return (
            appended_files(f"{self.root}/{increment.table}", increment)
            if pinned is None
            else pinned
        )

    def check_there(self, increment: Increment, files: Sequence[DataFile]) -> None:
        """Raises LakeError where a vacuum was faster than a pin."""
        fs, inner = file_system(f"{self.root}/{increment.table}")
        gone = [file.path for file in files if not fs.exists(f"{inner}/{file.path}")]
        if gone:
            raise LakeError(
                f"{len(gone)} of {len(files)} files of {increment.table} versions "
                f"[{increment.from_version}, {increment.to_version}) were compacted and vacuumed "
                f"({gone[0]}); pin an increment for as long as it is needed"
            )

    def read(self, increment: Increment, files: Sequence[DataFile]) -> DataFrame:
        """Plain Parquet is what an append is, and plans in a tenth of the change feed's time."""
        path = f"{self.root}/{increment.table}"
        now = self.spark.read.format("delta").load(path)
        if not files:
            return now.limit(0)
        reader = self.spark.read.option("basePath", path).schema(now.schema)
        paths = [literal(f"{path}/{file.path}") for file in files]
        return reader.parquet(*paths).select(*now.columns)

    def measured(self, increment: Increment, files: Sequence[DataFile]) -> Increment:
        """From the statistics of the log; from the rows where it has none."""
        rows = rows_of(files)
        times, windows = span_of(files, "time", moment), span_of(files, "window", int)
        if rows is None or times is None or windows is None:
            return self._counted(increment, files)
        return replace(
            increment,
            rows=rows,
            first_event=times.low,
            last_event=times.high,
            first_window=windows.low,
            last_window=windows.high,
        )

    def _counted(self, increment: Increment, files: Sequence[DataFile]) -> Increment:
        rows = self.read(increment, files)
        found = {"rows": F.count(F.lit(1))}
        if "time" in rows.columns:
            # Numbers, not timestamps: collected timestamps come in the zone of this process.
            micros = F.unix_micros("time")
            found = {**found, "first_event": F.min(micros), "last_event": F.max(micros)}
        if "window" in rows.columns:
            found = {**found, "first_window": F.min("window"), "last_window": F.max("window")}
        row = rows.agg(*(c.alias(name) for name, c in found.items())).collect()[0].asDict()
        ends = {n: row.get(n) for n in ("first_event", "last_event")}
        times = {n: None if micros is None else moment(micros) for n, micros in ends.items()}
        return replace(increment, **{**row, **times})
