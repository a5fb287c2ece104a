"""Files that land in a folder: CSV, JSON lines, Parquet, or .gz of these, in any mixture.

The stream is one of file names. A file that is damaged becomes one record that says why, so that
it ends in quarantine and the stream goes on. One that storage keeps from us is waited for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import reduce
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys_lib.adapters.folders import absolute, file_system, literal
from recsys_lib.adapters.sources.feed import Feed, record, text_record
from recsys_lib.adapters.sources.files import (
    CORRUPT,
    FORMATS,
    extension,
    not_now,
    read_csv,
    read_parquet,
)
from recsys_lib.adapters.sources.stream import FOREVER
from recsys_lib.errors import SettingsError, SourceError, StorageError
from recsys_lib.expressions import is_whole
from recsys_lib.settings import FilesSettings
from recsys_lib.types import RAW_RECORD

NAMES = "path string, modificationTime timestamp, length bigint, content binary"
# Names under which programs write what they rename when it is whole.
UNFINISHED = ("tmp", "part", "partial", "crc", "_copying_")
# Who throws where the bytes are at fault: what unpacks, splits or decodes them. Storage, networks
# and executors have other names, and what they say passes or waits for an operator.
DECODERS = re.compile(
    r"org\.apache\.hadoop\.io\.(?:compress|Text)\b|org\.apache\.hadoop\.util\.LineReader|"
    r"(?:shaded\.|org\.apache\.)parquet\.|org\.xerial\.snappy|com\.github\.luben\.zstd|"
    r"io\.airlift\.compress|net\.jpountz|"
    r"org\.apache\.spark\.sql\.execution\.(?:datasources\.parquet|vectorized)"
)
GONE = re.compile(r"FAILED_READ_FILE\.FILE_NOT_EXIST|ChecksumException")


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
            return [], {paths[0]: _fault(paths[0], error)}
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
            bad = [*bad, _damaged(path, _fault(path, error))]
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


def _fault(path: str, error: Exception) -> str:
    """In one line. Raises StorageError where the file may be whole: it is to be tried again."""
    if isinstance(error, StorageError):
        raise error
    text = str(error)
    if isinstance(error, SourceError):
        return text
    causes = re.findall(r"Caused by: (?:[\w.$]+\.)?(\w+(?:Exception|Error)[^\n]*)", text)
    told = (causes or [text.strip().splitlines()[0]])[-1][:300]
    if not (isinstance(error, AnalysisException) or GONE.search(text) or _decoding(text)):
        raise not_now(path, told) from error
    return f"cannot be read to its end: {told}"


def _decoding(text: str) -> bool:
    """Whether a decoder threw the first of all causes. What is too large for the memory is not
    taken for damaged."""
    first = text.rpartition("Caused by: ")[2]
    thrower = re.search(r"\n\s+at (?!java|jdk|sun)(\S+)", first)
    fits = "java.lang.OutOfMemoryError" not in first
    return fits and thrower is not None and DECODERS.match(thrower[1]) is not None
