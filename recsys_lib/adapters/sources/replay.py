"""A log cut into landing files by window, so that it can arrive as if it were live.

staging/release=27/part-….parquet, and last of all staging/_manifest.json. A release moves the
files of some windows into the inbox, which a stream watches; each file is moved at most once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_lib.adapters.folders import (
    absolute,
    file_system,
    literal,
    move,
    read_text,
    write_text,
)
from recsys_lib.adapters.sources.files import readable
from recsys_lib.types import Manifest

UNKNOWN = "unknown"


class ReplayFolder:
    """`folder`/staging, cut once; `folder`/inbox, what has been released."""

    def __init__(self, spark: SparkSession, folder: str) -> None:
        self.spark = spark
        self.staging = f"{absolute(folder)}/staging"
        self.inbox = f"{absolute(folder)}/inbox"

    def manifest(self) -> Manifest | None:
        """What was staged; None if staging has not been finished."""
        text = read_text(f"{self.staging}/_manifest.json")
        if text is None:
            return None
        found = json.loads(text)
        windows = {int(window): rows for window, rows in found["windows"].items()}
        log = found.get("log")
        return Manifest(found["source"], found["axis"], windows, found["unknown"], log)

    def cut(self, parsed: DataFrame, source: str, axis: str) -> Manifest:
        """Write the landing files beside the staging folder; a kill leaves nothing to clean up.

        Raises SourceError for a file of the log that turns out to be damaged.
        """
        release = F.coalesce(F.col("window").cast("string"), F.lit(UNKNOWN))
        # Rebalanced by window: few files a window, and no task that holds a giant one alone.
        rows = parsed.withColumn("release", release).hint("rebalance", "release")
        with readable(source):
            rows.write.mode("overwrite").partitionBy("release").parquet(self._unfinished)
        written = self.spark.read.schema("release string").parquet(literal(self._unfinished))
        counted = written.groupBy("release").count().collect()
        counts = {row["release"]: row["count"] for row in counted}
        windows = {int(name): n for name, n in counts.items() if name != UNKNOWN}
        return Manifest(source, axis, dict(sorted(windows.items())), counts.get(UNKNOWN, 0))

    def commit(self, manifest: Manifest) -> None:
        """Make the cut final: rename the folder, then write the manifest."""
        fs, inner = file_system(self.staging)
        if fs.exists(inner):
            fs.rm(inner, recursive=True)
        move(self._unfinished, self.staging)
        write_text(f"{self.staging}/_manifest.json", json.dumps(asdict(manifest), indent=1))

    def release(self, windows: Iterable[int]) -> None:
        """Move the files of `windows` into the inbox.

        Rows whose window is not known go with whatever is released first. Repeating a release
        moves what an interrupted one left behind.
        """
        for name in (*map(str, sorted(set(windows))), UNKNOWN):
            self._release(name)

    def _release(self, name: str) -> None:
        fs, inner = file_system(f"{self.staging}/release={name}")
        if not fs.exists(inner):
            return
        files = [f for f in fs.ls(inner, detail=False) if f.endswith(".parquet")]
        for number, file in enumerate(sorted(files)):
            stem = file.rsplit("/", 1)[-1]
            move(fs.unstrip_protocol(file), f"{self.inbox}/{name}-{number:05d}-{stem}")

    @property
    def _unfinished(self) -> str:
        return f"{self.staging}.unfinished"
