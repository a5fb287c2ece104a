"""Delta tables: read a version range, append or merge exactly once, know who read how far.

Reads and writes of rows go through Spark. Questions about the log (version, transactions) and
the tiny ledger go through delta-rs, which answers in milliseconds and without the JVM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from delta.tables import DeltaTable as SparkTable
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_lib.adapters.commits import appended_files
from recsys_lib.adapters.folders import absolute
from recsys_lib.adapters.ledger import Ledger
from recsys_lib.errors import LakeError
from recsys_lib.settings import LakeSettings
from recsys_lib.types import Increment


class Lake:
    """All tables of one run, under `root` (a folder, or a URI such as hdfs://…)."""

    def __init__(self, spark: SparkSession, root: str, settings: LakeSettings | None = None):
        self.spark = spark
        self.root = absolute(root)
        self.settings = settings or LakeSettings()
        self.ledger = Ledger(f"{self.root}/ledger")

    def path(self, table: str) -> str:
        return f"{self.root}/{table}"

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
        compacted since. Raises LakeError.
        """
        if isinstance(table, Increment):
            return self._appended(table)
        latest = self.version(table)
        reader = self.spark.read.format("delta")
        if version is not None:
            if not 0 <= version <= latest:
                raise LakeError(f"version of {table} must be 0 to {latest}, got {version}")
            reader = reader.option("versionAsOf", version)
        return reader.load(self.path(table))

    def small(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table that stays tiny, without the JVM; none where there is no table."""
        log = self._log(table)
        return [] if log is None else log.to_pyarrow_table().to_pylist()

    def done(self, table: str, app: str, version: int) -> bool:
        """Whether the log of `table` already holds this (or a later) write of `app`."""
        log = self._log(table)
        last = None if log is None else log.transaction_version(app)
        return last is not None and last >= version

    def append_once(
        self,
        table: str,
        rows: DataFrame,
        *,
        app: str,
        version: int,
        partition_by: Sequence[str] = (),
        merge_schema: bool = False,
    ) -> bool:
        """Append `rows` unless this write of `app` is in the log. True if it wrote now.

        `merge_schema`: columns that the table lacks are added to it.
        """
        if self.done(table, app, version):
            return False
        writer = rows.write.format("delta").mode("append")
        writer = writer.option("txnAppId", app).option("txnVersion", version)
        if partition_by and not self.exists(table):
            writer = writer.partitionBy(*partition_by)
        if merge_schema:
            writer = writer.option("mergeSchema", "true")
        writer.save(self.path(table))
        return True

    def merge_once(
        self,
        table: str,
        rows: DataFrame,
        *,
        on: Sequence[str],
        app: str,
        version: int,
        newer: str | None = None,
        set_: Mapping[str, str] | None = None,
    ) -> bool:
        """Update the rows that agree in `on`, insert the others; one row per key in `rows`.

        `newer` names a column: a row is replaced only where it is not older. `set_` gives SQL
        over `old` and `new` for columns that are not simply replaced.
        """
        if self.done(table, app, version):
            return False
        if not self.exists(table):
            writer = rows.write.format("delta").mode("append")
            writer.option("txnAppId", app).option("txnVersion", version).save(self.path(table))
            return True
        match = " AND ".join(f"old.`{c}` = new.`{c}`" for c in on)
        condition = None
        if newer is not None:
            condition = f"coalesce(new.`{newer}` >= old.`{newer}`, true)"
        values: dict[str, str | Column] = {f"`{c}`": f"new.`{c}`" for c in rows.columns}
        values = {**values, **{f"`{c}`": text for c, text in (set_ or {}).items()}}
        merge = (
            SparkTable.forPath(self.spark, self.path(table))
            .alias("old")
            .merge(rows.alias("new"), match)
            .whenMatchedUpdate(condition=condition, set=values)
            .whenNotMatchedInsertAll()
        )
        # MERGE takes its transaction from the session, not from writer options.
        app_key = "spark.databricks.delta.write.txnAppId"
        version_key = "spark.databricks.delta.write.txnVersion"
        self.spark.conf.set(app_key, app)
        self.spark.conf.set(version_key, str(version))
        try:
            merge.execute()
        finally:
            self.spark.conf.unset(app_key)
            self.spark.conf.unset(version_key)
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
        if opened is None and start >= end:
            return None
        if opened is None:
            opened = self._measured(Increment(table, start, end))
            self.ledger.write(opened, reader, "open")
        return opened

    def mark_read(
        self,
        increment: Increment,
        reader: str,
        *,
        window: int | None = None,
        counts: Mapping[str, Any] | None = None,
    ) -> None:
        """Last step of a reader: a crash before it repeats the increment, never skips it."""
        self.ledger.write(increment, reader, "read", window=window, counts=counts)

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
        files, partitioned = appended_files(self.path(increment.table), increment)
        if not files:
            return self.read(increment.table).limit(0)
        # Plain Parquet is what an append is, and plans in a tenth of the change feed's time.
        reader = self.spark.read.option("basePath", self.path(increment.table))
        schema = None if partitioned else self.read(increment.table).schema
        return (reader if schema is None else reader.schema(schema)).parquet(*files)

    def _measured(self, increment: Increment) -> Increment:
        rows = self._appended(increment)
        found = {"rows": F.count(F.lit(1))}
        if "time" in rows.columns:
            # Numbers, not timestamps: collected timestamps come in the zone of this process.
            micros = F.unix_micros("time")
            found = {**found, "first_event": F.min(micros), "last_event": F.max(micros)}
        if "window" in rows.columns:
            found = {**found, "first_window": F.min("window"), "last_window": F.max("window")}
        row = rows.agg(*(c.alias(name) for name, c in found.items())).collect()[0].asDict()
        times = {name: _utc(row.get(name)) for name in ("first_event", "last_event")}
        return replace(increment, **{**row, **times})

    def _log(self, table: str) -> DeltaTable | None:
        try:
            return DeltaTable(self.path(table))
        except TableNotFoundError:
            return None


def _utc(micros: int | None) -> datetime | None:
    if micros is None:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
