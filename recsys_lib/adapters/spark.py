"""The Spark session: one place for every option that Delta and a small machine need."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from recsys_lib.settings import SparkSettings

STATIC = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    # On local files each step of Hadoop's own renames asks a program (readlink) what is there, a
    # dozen times a commit. This one looks and renames as well, and asks nobody.
    "spark.delta.logStore.file.impl": "io.delta.storage.LocalLogStore",
    # Spark keeps 100 compiled expressions. An increment has more: it would find none of the last.
    "spark.sql.codegen.cache.maxEntries": "2000",
}
RUNTIME = {
    # A value that does not fit its type becomes null and is then quarantined with a reason.
    "spark.sql.ansi.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.adaptive.enabled": "true",
    # With the defaults (50, and as many small log files) every commit costs seconds: what each
    # task compiles for the log costs more than the log of a compacted table.
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    # A MERGE reads its source twice: to find the files it touches, and to write them.
    "spark.databricks.delta.merge.materializeSource": "all",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.sources.partitionOverwriteMode": "static",
}

# On two cores the second compiler costs more than it saves (half the time of a small increment went
# into it), and so do the barriers of the default collector (9 %). Where spark-submit starts the JVM
# it takes the same from conf/spark/spark-defaults.conf.
SMALL_JVM = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseParallelGC"


@contextmanager
def spark_session(settings: SparkSettings, app_name: str) -> Iterator[SparkSession]:
    """A session with Delta, in UTC and without ANSI errors; stopped at the end if made here.

    Under spark-submit (client mode) master and memory are the launcher's when
    `settings.master` is null; static options still come from here, because the context is
    made by this call.
    """
    was_there = SparkSession.getActiveSession() is not None
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name)
    runtime = {**RUNTIME, "spark.sql.shuffle.partitions": str(settings.shuffle_partitions)}
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    options = {**STATIC, **runtime, **settings.conf}
    if settings.master is not None and not submitted:
        options = {"spark.ui.enabled": "false", **options}
        options = {**options, "spark.driver.memory": settings.driver_memory}
        options = {"spark.driver.extraJavaOptions": SMALL_JVM, **options}
    if settings.master is not None and "spark.master" not in _launcher_conf():
        builder = builder.master(settings.master)
        if settings.master.startswith("local"):
            options = {"spark.driver.host": "localhost", **options}
    for key, value in options.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    # They print a screenful of JSON for a column that is not there; our errors say it in a line.
    for kind in ("SQL", "DataFrame"):
        PySparkLogger.getLogger(f"{kind}QueryContextLogger").disabled = True
    for key, value in {**runtime, **settings.conf}.items():
        if spark.conf.isModifiable(key):
            spark.conf.set(key, value)
    try:
        yield spark
    finally:
        if not was_there:
            spark.stop()


def _launcher_conf() -> set[str]:
    """Options that spark-submit fixed already; the launcher's master wins over ours."""
    from pyspark import SparkConf, SparkContext

    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return set()
    SparkContext._ensure_initialized()
    return {key for key, _ in SparkConf(loadDefaults=True).getAll()}
