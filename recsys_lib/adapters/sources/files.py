"""A user's log as it lies: CSV with a header, JSON lines or Parquet; a file or a folder."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys_lib.adapters.folders import file_system, literal, resolve
from recsys_lib.errors import SourceError, StorageError
from recsys_lib.expressions import identifier

CORRUPT = "_corrupt_record"
FORMATS = {
    "csv": "csv",
    "tsv": "csv",
    "txt": "csv",
    "json": "json",
    "jsonl": "json",
    "ndjson": "json",
    "parquet": "parquet",
    "pq": "parquet",
}
LONGEST_HEADER = 1 << 20
MOST_COLUMNS = 1 << 18  # room for each is set aside, a few MB a task
# No field of anybody's log is called so, whatever it holds.
TORN = "\ue000corrupt"
PACKED = ("gz", "bz2", "zst")
SAMPLE = 1 << 16  # bytes at each end of a file that tell it from another of its size


def read_log(spark: SparkSession, path: str) -> DataFrame:
    """Every record of `path`, columns as they come; CSV columns are all strings.

    A line that does not parse keeps its text in `_corrupt_record`, its columns null. A file that
    cannot be read at all is a SourceError that names it: half a folder is never taken for all.
    Files of a folder may have their columns in any order; one that lacks a column has nulls there.
    """
    fs, root = file_system(resolve(path))
    files = _files(fs, root, path)
    kinds = {_format(file) for file in files}
    if len(kinds) > 1:
        raise SourceError(f"{path}: files must be of one format, got {', '.join(sorted(kinds))}")
    kind = kinds.pop()
    read = {"csv": read_csv, "json": _read_json, "parquet": read_parquet}[kind]
    with readable(path):
        return read(spark, fs, files)


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn Spark's report of an unreadable file, met at any time, into a SourceError."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        text = str(error)
        found = re.search(
            r"(?:reading file|FAILED_READ_FILE\S*)[^\n]*?((?:file|hdfs|s3a?):\S+)", text
        )
        broken = re.search(
            r"FAILED_READ_FILE|CANNOT_READ_FILE_FOOTER|EOFException|ZipException", text
        )
        if found is None and broken is None:
            raise
        name = found.group(1).rstrip(".,'\"") if found else path
        raise SourceError(
            f"{name} cannot be read to its end (cut off or damaged?); "
            "repair it or take it out of the folder; nothing of the log was taken"
        ) from error


def _files(fs: AbstractFileSystem, root: str, path: str) -> list[str]:
    if not fs.exists(root):
        raise SourceError(f"{path}: no such file or folder; name an existing log")
    if fs.isfile(root):
        return [fs.unstrip_protocol(root)]
    found = [f for f in sorted(fs.find(root)) if not _hidden(f[len(root) :])]
    known = [f for f in found if extension(f) in FORMATS]
    if not known:
        raise SourceError(
            f"{path}: the folder holds no CSV, JSON lines or Parquet file "
            f"({len(found)} others); name the files .csv, .jsonl or .parquet, or .gz of these"
        )
    if len(known) < len(found):
        strange = next(f for f in found if f not in set(known))
        raise SourceError(f"{strange}: not CSV, JSON lines or Parquet; take it out of the folder")
    return [fs.unstrip_protocol(f) for f in known]


def _hidden(inner: str) -> bool:
    return any(part.startswith(("_", ".")) for part in inner.split("/") if part)


def extension(file: str) -> str:
    """Of the file's name, without that of its packing: jsonl of log.jsonl.gz."""
    parts = file.rsplit("/", 1)[-1].lower().split(".")
    return parts[-2] if len(parts) > 2 and parts[-1] in PACKED else parts[-1]


def _format(file: str) -> str:
    if extension(file) not in FORMATS:
        raise SourceError(f"{file}: the name must end in .csv, .jsonl or .parquet, or .gz of these")
    return FORMATS[extension(file)]


def read_csv(spark: SparkSession, fs: AbstractFileSystem, files: list[str]) -> DataFrame:
    groups: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for file in files:
        header = _header(fs, file)
        if header is not None:
            groups.setdefault(header, []).append(file)
    if not groups:
        raise SourceError(f"{files[0]}: empty; a CSV log needs a header line")
    parts = [_csv_rows(_lines(spark, members), *header) for header, members in groups.items()]
    return reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), parts)


def _lines(spark: SparkSession, files: list[str]) -> DataFrame:
    """Those that are not blank, as they came, as `line`."""
    unmarked = "if(startswith(value, '\ufeff'), substring(value, 2), value) AS line"
    lines = spark.read.text([literal(file) for file in files]).selectExpr(unmarked)
    return lines.where(F.col("line").rlike(r"[^ \t]"))


def _csv_rows(lines: DataFrame, header: str, separator: str, names: tuple[str, ...]) -> DataFrame:
    """A record ends with its line: in the two halves of one that goes on, a quote is left over at
    an end of a value. Spark would fill in what it could; half a row is worse than none."""
    line, places = F.col("line"), [f"c{number}" for number in range(len(names))]
    # Spark's bound of columns, 20480, would be an error of the file and not of the line.
    options = {"sep": separator, "escape": '"', "maxColumns": str(MOST_COLUMNS)}
    options = {**options, "columnNameOfCorruptRecord": "torn"}
    kinds = ", ".join(f"{place} string" for place in (*places, "torn"))
    rows = lines.where((line != header) & line.rlike(r"[^\x00-\x20]"))
    rows = rows.select(line, F.from_csv(line, kinds, options).alias("found"))
    odd = (F.length(line) - F.length(F.replace(line, F.lit('"'), F.lit("")))) % 2 == 1
    end = re.escape(separator)
    odd = odd & line.rlike(f'(^|{end})"|"({end}|$)')
    whole = F.col("found.torn").isNull() & F.is_valid_utf8(line) & ~odd
    told = rows.select(line, F.when(whole, F.col("found")).alias("found"))
    values = [F.col(f"found.{c}").alias(name) for c, name in zip(places, names, strict=True)]
    torn = F.when(F.col("found").isNull(), F.make_valid_utf8(line))
    return told.select(*values, torn.alias(CORRUPT))


def _header(fs: AbstractFileSystem, file: str) -> tuple[str, str, tuple[str, ...]] | None:
    """The line, its separator and the columns' names; None for an empty file."""
    try:
        # Only this line is decoded: a wrong byte further down is that line's own trouble.
        with fs.open(file, "rb", compression="infer") as lines:
            first = re.split(r"[\r\n]", lines.readline(LONGEST_HEADER).decode("utf-8-sig"))[0]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        _check_storage(file, error)
        raise SourceError(f"{file} cannot be read ({error}); is it a text file in UTF-8?") from None
    if not first.strip():
        return None
    separator = max(",;\t|", key=first.count)
    try:
        names = [name.strip() for name in next(csv.reader([first], delimiter=separator))]
    except csv.Error as error:
        raise SourceError(f"{file}: its first line is no header ({error})") from None
    lowered = [name.lower() for name in names]
    twice = sorted({name for name in names if lowered.count(name.lower()) > 1 or not name})
    if twice:
        raise SourceError(f"{file}: column names must differ and not be blank, got {twice} again")
    return first, separator, tuple(names)


def _read_json(spark: SparkSession, _: AbstractFileSystem, files: list[str]) -> DataFrame:
    """One row a line, also for lines that hold arrays; Spark's own reader would make any number."""
    lines = _lines(spark, files)
    fields = json_fields(spark, lines)
    if not fields:
        raise SourceError(f"{files[0]}: no line is a JSON object; a log is one object a line")
    found = lines.select("line", json_object("line", fields).alias("found"))
    # Expanded and named by position: names that differ by case alone cannot be asked for by name.
    places = [f"c{number}" for number in range(len(fields))]
    torn = F.when(F.col("found").isNull(), F.make_valid_utf8("line")).alias("torn")
    rows = found.select("found.*", torn).toDF(*places, "mark", "torn")
    names = _column_names(rows, {place: f.name for place, f in zip(places, fields, strict=True)})
    whole_only = [F.when(F.col("torn").isNull(), F.col(p)).alias(n) for p, n in names.items()]
    return rows.select(*whole_only, F.col("torn").alias(CORRUPT))


def json_object(name: str, fields: list[T.StructField]) -> Column:
    """The object that is all there is in the text of column `name`, as a struct of `fields` (and of
    TORN, which is null); null for anything else, such as two objects in a line."""
    whole = T.ArrayType(T.StructType([*fields, T.StructField(TORN, T.StringType())]))
    # Spark looks no further than the first value. Only what is one object has this mark behind it.
    listed = F.concat(F.lit("["), name, F.lit(f', {{"{TORN}": "end"}}]'))
    found = F.from_json(listed, whole, {"primitivesAsString": "true"})
    alone = (F.size(found) == 2) & (F.get(found, F.lit(1))[TORN] == "end")
    alone = alone & F.col(name).rlike(r"^\s*\{") & F.is_valid_utf8(name)
    return F.when(alone, F.get(found, F.lit(0)))


def _column_names(rows: DataFrame, names: dict[str, str]) -> dict[str, str]:
    """A name for each column that tables can bear: of those that differ by case alone the one that
    most lines use keeps it, the others have underscores at their end."""
    plain = {place: name.replace("`", "'") for place, name in names.items()}
    lowered = [name.lower() for name in (*plain.values(), CORRUPT)]
    order = list(plain)
    if len(set(lowered)) < len(lowered):
        counted = rows.agg(*(F.count(place).alias(place) for place in plain)).collect()[0]
        order = sorted(plain, key=lambda place: (-counted[place], place))
    taken, given = {CORRUPT}, dict[str, str]()
    for place in order:
        name = plain[place]
        while name.lower() in taken:
            name += "_"
        taken, given = {*taken, name.lower()}, {**given, place: name}
    return {place: given[place] for place in plain}


def json_fields(spark: SparkSession, lines: DataFrame) -> list[T.StructField]:
    """What Spark infers of a column of texts. Asked for files and not for lines, it would refuse
    the whole log for one line that names a field twice, or for two that name it in capitals and
    not."""
    reader = spark._jsparkSession.read()
    reader = reader.option("primitivesAsString", "true")
    reader = reader.option("columnNameOfCorruptRecord", TORN)
    jvm: Any = spark._jvm
    texts = getattr(lines._jdf, "as")(jvm.org.apache.spark.sql.Encoders.STRING())
    schema = T.StructType.fromJson(json.loads(reader.json(texts).schema().json()))
    return list({f.name: f for f in schema.fields if f.name != TORN}.values())


def read_parquet(spark: SparkSession, fs: AbstractFileSystem, files: list[str]) -> DataFrame:
    groups: dict[str, tuple[pa.Schema, list[str]]] = {}
    for file in files:
        schema = _footer(fs, file)
        groups.setdefault(str(schema), (schema, []))[1].append(file)
    parts = [
        _without_nanos(spark.read.parquet(*map(literal, members)), schema)
        for schema, members in groups.values()
    ]
    texts = {f.name for part in parts for f in part.schema if isinstance(f.dataType, T.StringType)}
    parts = [_as_text(part, texts) for part in parts]
    return reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), parts)


def _as_text(rows: DataFrame, names: set[str]) -> DataFrame:
    """Doubles of `names`, which are text in other files, as the text that such files have."""
    double = (T.FloatType, T.DoubleType)
    found = [f.name for f in rows.schema if f.name in names and isinstance(f.dataType, double)]
    return rows.withColumns({name: identifier(name, rows) for name in found})


def _footer(fs: AbstractFileSystem, file: str) -> pa.Schema:
    try:
        with fs.open(file, "rb") as binary:
            return pq.read_schema(binary).remove_metadata()
    except (pa.ArrowException, OSError) as error:
        _check_storage(file, error)
        raise SourceError(
            f"{file} is not a readable Parquet file ({str(error).splitlines()[0]}); "
            "repair it or take it out of the folder; nothing of the log was taken"
        ) from None


def _check_storage(file: str, error: Exception) -> None:
    """Raises StorageError for what the file's bytes are not to blame for: what unpacks and decodes
    them gives its errors no number, systems and networks do or have a class for each."""
    own = isinstance(error, (gzip.BadGzipFile, FileNotFoundError))
    if isinstance(error, OSError) and not own and (type(error) is not OSError or error.errno):
        raise not_now(file, str(error)) from error


def not_now(file: str, why: str) -> StorageError:
    """The error of a file that is to be tried again."""
    denied = re.search(r"permission denied|access ?denied|AccessControl", why, re.IGNORECASE)
    step = "let this user read it" if denied else "put that right"
    return StorageError(
        f"{file} cannot be read now: {why}; {step}, then the same command goes on; "
        "if it is damaged, take it out of the folder"
    )


def _without_nanos(rows: DataFrame, schema: pa.Schema) -> DataFrame:
    """Timestamps from nanoseconds, which pandas writes, Spark refuses, and we read as longs."""
    nanos = {f.name for f in schema if pa.types.is_timestamp(f.type) and f.type.unit == "ns"}

    def plain(field: T.StructField) -> Column:
        it = F.col(f"`{field.name}`")
        if field.name in nanos and isinstance(field.dataType, T.LongType):
            # `div` stays in whole numbers; a double would be off by a microsecond
            it = F.timestamp_micros(F.expr(f"`{field.name}` div 1000"))
        elif isinstance(field.dataType, T.TimestampNTZType):
            it = it.cast("timestamp")
        return it.alias(field.name)

    return rows.select(*(plain(field) for field in rows.schema))


def fingerprint(path: str) -> str:
    """Changes when a file of `path` is replaced, grows or goes."""
    fs, root = file_system(resolve(path))
    files = _files(fs, root, path)
    facts = [(f, fs.size(f), str(fs.modified(f))) for f in files]
    return json.dumps(facts)


def identity(path: str) -> str | None:
    """What tells the log at `path` from another or a longer one, wherever it lies and whenever it
    was copied there; None where there is none. Files are not read through."""
    try:
        fs, root = file_system(resolve(path))
        files = _files(fs, root, path)
    except SourceError:
        return None
    root = fs.unstrip_protocol(root)
    told = hashlib.sha256()
    for file in files:
        size = fs.size(file)
        starts = (0, max(0, size - SAMPLE))
        ends = [fs.cat_file(file, start, start + SAMPLE) for start in starts]
        told.update(repr((file[len(root) :], size, ends)).encode())
    return told.hexdigest()
