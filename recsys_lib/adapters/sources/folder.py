"""Files that land in a folder: CSV, JSON lines, Parquet, or .gz of these, in any mixture.

The stream is one of file names. A file that cannot be read becomes one record that says why, so
that it ends in quarantine and the stream goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import reduce
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys_lib.adapters.folders import absolute, file_system, literal
from recsys_lib.adapters.sources.feed import Feed, record, text_record
from recsys_lib.adapters.sources.files import CORRUPT, FORMATS, extension, read_csv, read_parquet
from recsys_lib.adapters.sources.stream import FOREVER
from recsys_lib.errors import SettingsError, SourceError
from recsys_lib.expressions import is_whole
from recsys_lib.settings import FilesSettings
from recsys_lib.types import RAW_RECORD

NAMES = "path string, modificationTime timestamp, length bigint, content binary"
# Names under which programs write what they rename when it is whole.
UNFINISHED = ("tmp", "part", "partial", "crc", "_copying_")
# Not the file's fault: the same file is tried again when the storage is back.
PASSING = re.compile(
    r"Could not obtain block|BlockMissing|Connection ?refused|ConnectException|SocketTimeout|"
    r"NoRouteToHost|Filesystem closed|SafeMode|StandbyException|UnknownHost"
)


def files_feed(spark: SparkSession, settings: FilesSettings) -> Feed:
    """Every file once, by its path. Raises SettingsError."""
    if settings.path is None:
        raise SettingsError("--source files", ["files.path must be set: the folder files land in"])
    folder = absolute(settings.path)
    fs, inner = file_system(folder)
    if not fs.isdir(inner):
        raise SettingsError("--source files", [f"files.path: {folder} must be a folder, make it"])

    def stream() -> DataFrame:
        return (
            spark.readStream.format("binaryFile")
            .schema(NAMES)
            .option("maxFilesPerTrigger", settings.max_files_per_batch)
            .option("maxFileAge", FOREVER)
            .option("recursiveFileLookup", "true")
            .load(literal(folder))
            .select("path")
        )

    def records(batch: DataFrame) -> DataFrame:
        return read_files(spark, _paths(batch))

    def careful(batch: DataFrame) -> DataFrame:
        return read_good_files(spark, _paths(batch))

    name = re.sub(r"\W+", "-", folder).strip("-")[-120:]
    return Feed("files", name, stream, records, careful, settings={"files.path": folder})


def read_files(spark: SparkSession, paths: Iterable[str]) -> DataFrame:
    """Raw records of `paths`. Damage inside a file shows only when its rows are asked for."""
    kinds: dict[str, list[str]] = {"csv": [], "json": [], "parquet": []}
    faults: dict[str, str] = {}
    parts: list[DataFrame] = []
    for path in paths:
        ending = extension(path)
        if ending in FORMATS:
            kinds[FORMATS[ending]].append(path)
        elif ending not in UNFINISHED:
            faults[path] = "not CSV, JSON lines or Parquet, by its name"
    if kinds["json"]:
        parts = [*parts, _lines(spark, kinds["json"])]
    for kind in ("csv", "parquet"):
        found, wrong = _tables(spark, kind, kinds[kind])
        parts, faults = [*parts, *found], {**faults, **wrong}
    bad = [_damaged(path, fault) for path, fault in faults.items()]
    parts = [*parts, spark.createDataFrame(bad, RAW_RECORD)] if bad or not parts else parts
    return reduce(DataFrame.unionByName, parts)


def _tables(
    spark: SparkSession, kind: str, paths: list[str]
) -> tuple[list[DataFrame], dict[str, str]]:
    """All at once, which plans a scan for each header and not for each file; one by one where a
    file has no sound header or footer. {path: fault} of these."""
    read = {"csv": read_csv, "parquet": read_parquet}[kind]
    if not paths:
        return [], {}
    try:
        rows = read(spark, file_system(paths[0])[0], paths)
    except (SourceError, PySparkException, Py4JJavaError) as error:
        if len(paths) == 1:
            return [], {paths[0]: _fault(error)}
        alone = [_tables(spark, kind, [path]) for path in paths]
        found = [part for parts, _ in alone for part in parts]
        return found, {path: fault for _, faults in alone for path, fault in faults.items()}
    return [_as_json(rows, typed=kind != "csv")], {}


def read_good_files(spark: SparkSession, paths: Iterable[str]) -> DataFrame:
    """As `read_files`, after each file was read to its end; one that cannot be is a bad record."""
    good: list[str] = []
    bad: list[tuple[Any, ...]] = []
    for path in paths:
        try:
            read_files(spark, [path]).write.format("noop").mode("overwrite").save()
        except (PySparkException, Py4JJavaError) as error:
            bad = [*bad, _damaged(path, _fault(error))]
        else:
            good = [*good, path]
    return read_files(spark, good).unionByName(spark.createDataFrame(bad, RAW_RECORD))


def _damaged(path: str, fault: str) -> tuple[Any, ...]:
    """One record (types.RAW_RECORD) in place of the file: its name, and what is wrong with it."""
    return (path, path, None, None, None, "damaged_file", fault)


def _paths(batch: DataFrame) -> list[str]:
    """Few: as many as the setting allows in a micro-batch."""
    return sorted(row["path"] for row in batch.collect())


def _lines(spark: SparkSession, paths: list[str]) -> DataFrame:
    marked = F.col("value").startswith("\ufeff")  # a byte order mark
    text = F.when(marked, F.substring("value", 2, 1 << 30)).otherwise(F.col("value"))
    text = F.when(F.is_valid_utf8("value"), text).otherwise(F.col("value"))
    rows = spark.read.text([literal(path) for path in paths]).where("trim(value) != ''")
    return rows.select(*text_record(text, F.input_file_name()))


def _as_json(rows: DataFrame, *, typed: bool) -> DataFrame:
    corrupt = F.col(CORRUPT) if CORRUPT in rows.columns else F.lit(None).cast("string")
    named = [_plain(field) for field in rows.schema if field.name != CORRUPT]
    payload = F.make_valid_utf8(F.coalesce(corrupt, F.to_json(F.struct(*named))))
    detail = F.when(corrupt.contains("\ufffd"), "the bytes are not UTF-8").otherwise(
        "the line does not fit the header"
    )
    broken: dict[str, Any] = {
        "problem": F.when(corrupt.isNotNull(), "unreadable"),
        "detail": F.when(corrupt.isNotNull(), detail),
    }
    return rows.select(*record(payload, F.input_file_name(), typed=typed, **broken))


def _plain(field: T.StructField) -> Column:
    """Whole numbers as other sources write them, 12345678: pandas has them as doubles where some
    are missing, of which Spark would make 1.2345678E7."""
    it = F.col(f"`{field.name}`")
    if not isinstance(field.dataType, (T.FloatType, T.DoubleType)):
        return it
    either = F.when(is_whole(it), it.cast("bigint").cast("variant")).otherwise(it.cast("variant"))
    return either.alias(field.name)


def _fault(error: Exception) -> str:
    """In one line; raised again where the storage was at fault."""
    text = str(error)
    if PASSING.search(text):
        raise error
    if isinstance(error, SourceError):
        return text
    causes = re.findall(r"Caused by: (?:[\w.$]+\.)?(\w+(?:Exception|Error)[^\n]*)", text)
    return f"cannot be read to its end: {(causes or [text.strip().splitlines()[0]])[-1][:300]}"
