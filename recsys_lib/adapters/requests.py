"""A file of requests read in equal shares by many processes, and one file of answers written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import csv
from pyspark.sql import SparkSession

from recsys_lib.adapters.folders import file_system, resolve
from recsys_lib.errors import SourceError

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
}
# Ids are text: to guess at their type would make 7 of 007. NumPy's arrays print over many lines.
CSV = ds.CsvFileFormat(
    parse_options=csv.ParseOptions(newlines_in_values=True),
    convert_options=csv.ConvertOptions(
        column_types={"request_id": pa.string(), "items": pa.string()}
    ),
)
Answer = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def answer_file(
    spark: SparkSession, source: str, target: str, answer: Answer, schema: pa.Schema, rows: int
) -> int:
    """Answer every row of `source`, in its order, into the one Parquet file `target`.

    Each task reads its own contiguous share of the rows, `rows` at a time, so memory does not
    grow with the file. Returns the number of answers. The target appears whole or not at all.
    Raises SourceError for the first request, in order, that cannot be answered.
    """
    count = dataset(source).count_rows()
    tasks = max(1, min(spark.sparkContext.defaultParallelism, -(-count // rows)))
    edges = [count * i // tasks for i in range(tasks + 1)]
    shares = spark.sparkContext.parallelize(range(tasks), tasks)
    parts = Path(target).with_name(f".{Path(target).name}.parts")
    parts.mkdir(parents=True, exist_ok=True)

    def write(numbers: Iterable[int]) -> Iterator[str]:
        """What is wrong with the requests, if anything: told, as Spark would try again."""
        for number in numbers:
            batches = _share(source, edges[number], edges[number + 1], rows)
            with pq.ParquetWriter(parts / f"{number:05d}.parquet", schema) as writer:
                try:
                    for batch in answer(batches):
                        writer.write_batch(batch)
                except SourceError as error:
                    yield str(error)

    try:
        faults = shares.mapPartitions(write).collect()
        if faults:
            raise SourceError(f"{source}: {faults[0]}")
        whole = parts / "whole.parquet"
        with pq.ParquetWriter(whole, schema) as writer:
            for number in range(tasks):
                file = parts / f"{number:05d}.parquet"
                for batch in pq.ParquetFile(file).iter_batches():
                    writer.write_batch(batch)
                file.unlink()
        whole.replace(target)
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return count


def dataset(source: str) -> ds.Dataset:
    """The requests of a Parquet, JSON lines or CSV file or folder. Raises SourceError."""
    fs, path = file_system(resolve(source))
    if not fs.exists(path):
        raise SourceError(f"{source} must be a file of requests, got nothing there")
    suffix = Path(path).suffix
    if suffix == ".gz":
        suffix = Path(Path(path).stem).suffix
    form = "parquet" if fs.isdir(path) else FORMATS.get(suffix)
    if form is None:
        raise SourceError(f"{source} must end in one of {', '.join(FORMATS)}, got {suffix!r}")
    try:
        made = ds.dataset(path, filesystem=fs, format=CSV if form == "csv" else form)
        made.schema  # noqa: B018  (reads the first file)
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise SourceError(f"{source} is not readable as {form}: {first}; repair it") from None
    return made


def _share(source: str, start: int, end: int, rows: int) -> Iterator[pa.RecordBatch]:
    """Rows start..end of the file, in order."""
    seen = 0
    for batch in dataset(source).to_batches(batch_size=rows, use_threads=False):
        low, high = max(start - seen, 0), min(end - seen, batch.num_rows)
        if low < high:
            yield batch.slice(low, high - low)
        seen += batch.num_rows
        if seen >= end:
            return
