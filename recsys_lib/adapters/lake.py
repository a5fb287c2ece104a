"""Delta tables: read a version range, append or merge exactly once, know who read how far,
pin what must stay, compact and vacuum the rest.

Reads and writes of rows go through Spark. Questions about the log (version, transactions) and
the tiny ledger go through delta-rs, which answers in milliseconds and without the JVM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from delta.tables import DeltaTable as SparkTable
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pyspark.sql import Column, DataFrame, SparkSession

from recsys_lib.adapters.commits import added_since, appended_files, written_rows
from recsys_lib.adapters.folders import absolute, file_system
from recsys_lib.adapters.increments import IncrementRows
from recsys_lib.adapters.ledger import Ledger
from recsys_lib.adapters.pins import Pins
from recsys_lib.adapters.upkeep import CONFLICTS, MIB, compact, small_files, trim_log, vacuum
from recsys_lib.errors import LakeError
from recsys_lib.settings import LakeSettings
from recsys_lib.types import Increment

# What is ever asked for by range; Delta keeps the smallest and largest of these for each file.
STATISTICS = ("window", "landed", "batch", "time", "arrived")
LEDGER = "ledger"
# A reader that was away for a month still finds every commit: it reads from the log what is new.
LOG = {"delta.enableExpiredLogCleanup": "false"}


class Lake:
    """All tables of one run, under `root` (a folder, or a URI such as hdfs://…)."""

    def __init__(self, spark: SparkSession, root: str, settings: LakeSettings | None = None):
        self.spark = spark
        self.root = absolute(root)
        self.settings = settings or LakeSettings()
        self.ledger = Ledger(self.path(LEDGER))
        self.pins = Pins(self.root)
        self._rows = IncrementRows(spark, self.root, self.pins)
        self._written: set[str] = set()

    def path(self, table: str) -> str:
        return f"{self.root}/{table}"

    def tables(self) -> list[str]:
        """Names of all tables, in order."""
        fs, inner = file_system(self.root)
        found = fs.ls(inner, detail=False) if fs.exists(inner) else []
        names = [path.rstrip("/").rpartition("/")[2] for path in found]
        return sorted(name for name in names if fs.exists(f"{inner}/{name}/_delta_log"))

    def exists(self, table: str) -> bool:
        return self._log(table) is not None

    def version(self, table: str) -> int:
        """Latest version. Raises LakeError where there is no such table."""
        log = self._log(table)
        if log is None:
            raise LakeError(
                f"table {table!r} is not in {self.root}; run the step that writes it first"
            )
        return log.version()

    def read(self, table: str | Increment, version: int | None = None) -> DataFrame:
        """The table as it is when the rows are asked for, or as it was at `version`.

        An increment is exactly the rows appended in its versions, whatever was appended or
        compacted since; while it is pinned also after a vacuum or a cleaned log. The same holds
        for a version v whose increment [0, v + 1) is pinned. Raises LakeError.
        """
        if isinstance(table, Increment):
            return self._appended(table)
        latest = self.version(table)
        reader = self.spark.read.format("delta")
        if version is not None:
            if not 0 <= version <= latest:
                raise LakeError(f"version of {table} must be 0 to {latest}, got {version}")
            whole = Increment(table, 0, version + 1)
            pinned = self.pins.files(whole)
            if pinned is not None:
                return self._rows.read(whole, pinned)
            reader = reader.option("versionAsOf", version)
        return reader.load(self.path(table))

    def small(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table that stays tiny, without the JVM; none where there is no table."""
        log = self._log(table)
        return [] if log is None else log.to_pyarrow_table().to_pylist()

    def partitions(self, table: str) -> list[dict[str, str]]:
        """Values of the partition columns, one for each partition, without the JVM; none where
        there is no table."""
        log = self._log(table)
        return [] if log is None else log.partitions()

    def last(self, table: str, app: str) -> int | None:
        """The version of the last write of `app` in the log of `table`."""
        log = self._log(table)
        return None if log is None else log.transaction_version(app)

    def done(self, table: str, app: str, version: int) -> bool:
        """Whether the log of `table` already holds this (or a later) write of `app`."""
        last = self.last(table, app)
        return last is not None and last >= version

    def append_once(
        self,
        table: str,
        rows: DataFrame,
        *,
        app: str,
        version: int,
        partition_by: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
    ) -> bool:
        """Append `rows` unless this write of `app` is in the log. True if it wrote now.

        Columns that the table lacks are added to it. `properties` of Delta (`delta.…`) are given
        to a table that is made by this call.
        """
        if self.done(table, app, version):
            return False
        self._append(table, rows, app, version, partition_by, properties)
        return True

    def written(self, table: str, *, app: str, version: int) -> int:
        """Rows that the append `version` of `app` put into `table`. Raises LakeError."""
        rows = written_rows(self.path(table), app, version)
        if rows is None:
            raise LakeError(
                f"the log of {table} must hold write {version} of {app!r}, but has none; was the "
                "lake rolled back?"
            )
        return rows

    def _append(
        self,
        table: str,
        rows: DataFrame,
        app: str,
        version: int,
        partition_by: Sequence[str],
        properties: Mapping[str, str] | None,
    ) -> None:
        writer = rows.write.format("delta").mode("append").option("mergeSchema", "true")
        writer = writer.option("txnAppId", app).option("txnVersion", version)
        if not self.exists(table):
            # Statistics of long texts cost as much as writing them, and skip nothing.
            told = [n for n in STATISTICS if n in rows.columns and n not in partition_by]
            shown = {"delta.dataSkippingStatsColumns": ",".join(told)} if told else {}
            writer = writer.partitionBy(*partition_by) if partition_by else writer
            writer = writer.options(**{**LOG, **shown, **(properties or {})})
        with _no_other_writer(table):
            writer.save(self.path(table))
        self._written.add(table)

    def merge_once(
        self,
        table: str,
        rows: DataFrame,
        *,
        on: Sequence[str],
        app: str,
        version: int,
        set_: Mapping[str, str] | None = None,
        gone: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> bool:
        """Update the rows that agree in `on`, insert the others; one row per key in `rows`.

        `set_` gives SQL over `old` and `new` for columns that are not simply replaced. Rows for
        which the SQL `gone` over `old` holds are deleted where `rows` has none of their key.
        Columns that the table lacks are added to it; `properties` as for `append_once`.
        """
        if not self.exists(table):
            return self.append_once(table, rows, app=app, version=version, properties=properties)
        if self.done(table, app, version):
            return False
        match = " AND ".join(f"old.`{c}` = new.`{c}`" for c in on)
        values: dict[str, str | Column] = {f"`{c}`": f"new.`{c}`" for c in rows.columns}
        values = {**values, **{f"`{c}`": text for c, text in (set_ or {}).items()}}
        merge = (
            SparkTable.forPath(self.spark, self.path(table))
            .alias("old")
            .merge(rows.alias("new"), match)
            .withSchemaEvolution()
            .whenMatchedUpdate(set=values)
            .whenNotMatchedInsertAll()
        )
        merge = merge if gone is None else merge.whenNotMatchedBySourceDelete(gone)
        # MERGE takes its transaction from the session, not from writer options.
        app_key = "spark.databricks.delta.write.txnAppId"
        version_key = "spark.databricks.delta.write.txnVersion"
        self.spark.conf.set(app_key, app)
        self.spark.conf.set(version_key, str(version))
        try:
            with _no_other_writer(table):
                merge.execute()
        finally:
            self.spark.conf.unset(app_key)
            self.spark.conf.unset(version_key)
        self._written.add(table)
        return True

    def next_increment(self, table: str, reader: str) -> Increment | None:
        """What `reader` has not read of `table` yet; None if nothing.

        The range is written to the ledger before it is returned, so that after a crash the same
        range comes back, even if the table has grown since.
        """
        if not self.exists(table):
            return None
        opened, start = self.ledger.position(table, reader)
        end = self.version(table) + 1
        if opened is not None or start >= end:
            return opened
        fresh = Increment(table, start, end)
        files = appended_files(self.path(table), fresh)
        if not files and start:
            return None  # the table was only compacted
        fresh = self._rows.measured(fresh, files)
        self.pins.write(fresh, _reader(reader), files)
        return self.ledger.open(fresh, reader)

    def mark_read(
        self,
        increment: Increment,
        reader: str,
        *,
        window: int | None = None,
        counts: Mapping[str, Any] | None = None,
    ) -> None:
        """Last step of a reader: a crash before it repeats the increment, never skips it.

        Then tables that this lake has written to, or read here, are compacted if they need it; the
        ledger too, each row of which is a file. By Spark: delta-rs lets two compactions at once
        both pass, and every row is there twice.
        """
        self.ledger.write(increment, reader, "read", window=window, counts=counts)
        self.pins.remove(_reader(reader), table=increment.table)
        for table in sorted({*self._written, increment.table, LEDGER}):
            self._written.discard(table)
            if self.small_files(table) > self.settings.max_small_files:
                self.compact(table)

    def pin(self, increment: Increment, by: str) -> None:
        """Keep the rows of `increment` readable until `by` gives them up.

        Increment(table, 0, v + 1) is the table as it was at version v. Raises LakeError where the
        rows are no longer there.
        """
        files = self._rows.files(increment)
        self.pins.write(increment, by, files)
        try:
            self._rows.check_there(increment, files)
        except LakeError:
            self.pins.remove(by, increment)
            raise

    def unpin(self, by: str, increment: Increment | None = None) -> None:
        """Give up the pin of `increment`, or all pins of `by`; nothing is deleted yet."""
        self.pins.remove(by, increment)

    def small_files(self, table: str) -> int:
        """How many files a compaction would join; answered from the log."""
        now = Increment(table, 0, self.version(table) + 1)
        return small_files(appended_files(self.path(table), now), self.settings.file_mib * MIB)

    def compact(self, table: str) -> bool:
        """Join small files into some of `lake.file_mib`; no reader sees a difference."""
        return compact(self.spark, self.path(table), self.settings.file_mib * MIB)

    def vacuum(self, table: str, hours: int | None = None) -> int:
        """Delete files that no version of the last `hours` (lake.keep_hours) has, no pin names
        and no known reader has still to read or has begun with; how many. What is as old in the
        log goes too, where a checkpoint sums it up."""
        held = {*self.pins.held(table)}
        behind, opened = self.ledger.behind(table), self.ledger.opened(table)
        if behind is not None:
            held |= added_since(self.path(table), behind)
        for version in opened:
            with suppress(LakeError):  # an older one has let it go: that shall not stop this
                whole = Increment(table, 0, version + 1)
                held |= {file.path for file in appended_files(self.path(table), whole)}
        kept = self.settings.keep_hours if hours is None else hours
        deleted = vacuum(self.path(table), kept, held | self.pins.held(table))
        needed = opened if behind is None else {*opened, behind}
        trim_log(self.path(table), kept, min(needed, default=None))
        return deleted

    def _appended(self, increment: Increment) -> DataFrame:
        if not 0 <= increment.from_version < increment.to_version:
            raise LakeError(
                f"an increment must hold at least one version, got "
                f"[{increment.from_version}, {increment.to_version}) of {increment.table}"
            )
        latest = self.version(increment.table)
        if increment.to_version > latest + 1:
            raise LakeError(
                f"{increment.table} ends at version {latest}, but the increment asks for "
                f"versions before {increment.to_version}; was the lake rolled back?"
            )
        files = self._rows.files(increment)
        self._rows.check_there(increment, files)
        return self._rows.read(increment, files)

    def _log(self, table: str) -> DeltaTable | None:
        try:
            return DeltaTable(self.path(table))
        except TableNotFoundError:
            return None


@contextmanager
def _no_other_writer(table: str) -> Iterator[None]:
    """Delta lets one of two writes through; the other one left nothing. Raises LakeError."""
    try:
        yield
    except CONFLICTS as error:
        raise LakeError(
            f"another process changed {table} in this moment; nothing of this write is in it: let "
            "one of them work, then start this again"
        ) from error


def _reader(name: str) -> str:
    return f"reader {name}"
