from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys_lib.adapters.requests import answer_file, dataset
from recsys_lib.errors import SourceError

SCHEMA = pa.schema([("request_id", pa.string()), ("count", pa.int64())])
ROWS = [{"request_id": f"r{n:02d}", "items": [f"i{i}" for i in range(n % 4)]} for n in range(23)]


def counting() -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Answers each request with the number of its items; travels to Spark's tasks by value."""

    def answer(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.compute as pc

        for batch in batches:
            items = batch.column("items")
            if pa.types.is_string(items.type):
                items = pc.split_pattern_regex(items, r"\s+")
            counts = pc.cast(pc.list_value_length(items), pa.int64())
            columns = {"request_id": batch.column("request_id"), "count": counts}
            yield pa.RecordBatch.from_pydict(columns)

    return answer


def parquet(path: Path) -> str:
    pq.write_table(pa.Table.from_pylist(ROWS), path.with_suffix(".parquet"), row_group_size=5)
    return str(path.with_suffix(".parquet"))


def lines(path: Path) -> str:
    text = "\n".join(json.dumps(row) for row in ROWS)
    path.with_suffix(".jsonl").write_text(text)
    return str(path.with_suffix(".jsonl"))


def folder(path: Path) -> str:
    path.mkdir()
    table = pa.Table.from_pylist(ROWS)
    for number, start in enumerate((0, 10, 20)):
        pq.write_table(table.slice(start, 10), path / f"part-{number}.parquet")
    return str(path)


@pytest.mark.parametrize("write", [parquet, lines, folder])
def test_every_request_is_answered_in_the_order_of_the_file(
    spark: SparkSession, tmp_path: Path, write: Callable[[Path], str]
) -> None:
    target = tmp_path / "answers.parquet"
    count = answer_file(spark, write(tmp_path / "asked"), str(target), counting(), SCHEMA, rows=4)
    answers = pq.read_table(target).to_pylist()
    assert count == len(ROWS)
    assert answers == [{"request_id": r["request_id"], "count": len(r["items"])} for r in ROWS]
    assert not list(tmp_path.glob(".*"))


def test_text_columns_of_a_csv_come_as_text(spark: SparkSession, tmp_path: Path) -> None:
    file = tmp_path / "asked.csv"
    file.write_text("request_id,items\nx,a b c\ny,d\n")
    answer_file(spark, str(file), str(tmp_path / "out"), counting(), SCHEMA, rows=1)
    assert pq.read_table(tmp_path / "out").column("count").to_pylist() == [3, 1]


def test_older_answers_are_replaced_and_stay_when_an_answer_fails(
    spark: SparkSession, tmp_path: Path
) -> None:
    source, target = parquet(tmp_path / "asked"), tmp_path / "answers.parquet"
    target.write_text("older")

    def failing(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise ValueError("no answer")
        yield

    with pytest.raises(Exception, match="no answer"):
        answer_file(spark, source, str(target), failing, SCHEMA, rows=100)
    assert target.read_text() == "older"
    assert not list(tmp_path.glob(".*"))
    answer_file(spark, source, str(target), counting(), SCHEMA, rows=100)
    assert pq.read_table(target).num_rows == len(ROWS)


def test_a_request_that_cannot_be_answered_is_one_message(
    spark: SparkSession, tmp_path: Path
) -> None:
    def refusing(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from recsys_lib.errors import SourceError

        for batch in batches:
            raise SourceError(f"{batch.column('request_id')[0]} is odd")
        yield

    source = parquet(tmp_path / "asked")
    with pytest.raises(SourceError, match=r"^.*asked\.parquet: r00 is odd$"):
        answer_file(spark, source, str(tmp_path / "out.parquet"), refusing, SCHEMA, rows=4)
    assert [path.name for path in tmp_path.iterdir()] == ["asked.parquet"]


def test_a_file_without_requests_gives_a_file_without_answers(
    spark: SparkSession, tmp_path: Path
) -> None:
    empty = pa.schema([("request_id", pa.string()), ("items", pa.list_(pa.string()))]).empty_table()
    pq.write_table(empty, tmp_path / "asked.parquet")
    target = tmp_path / "out.parquet"
    asked = str(tmp_path / "asked.parquet")
    assert answer_file(spark, asked, str(target), counting(), SCHEMA, rows=10) == 0
    assert pq.read_table(target).schema == SCHEMA


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("nothing.parquet", None, "must be a file of requests, got nothing there"),
        ("asked.xlsx", b"?", r"must end in one of \.parquet, .*, got '\.xlsx'"),
        ("asked.parquet", b"not parquet", "is not readable as parquet: .*; repair it"),
        ("asked.jsonl", b"{broken", "is not readable as json: .*; repair it"),
    ],
    ids=["missing", "unknown ending", "damaged Parquet", "damaged JSON"],
)
def test_what_cannot_be_read_is_said_in_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, wanted: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=wanted):
        dataset(str(tmp_path / name))


def test_ids_in_a_csv_keep_their_zeros_and_an_array_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "asked.csv"
    path.write_text('request_id,items\n007,0042\n008,"[1 2\n 3]"\n')
    assert dataset(str(path)).to_table().to_pydict() == {
        "request_id": ["007", "008"],
        "items": ["0042", "[1 2\n 3]"],
    }


def test_compressed_files_are_known_by_the_ending_before(tmp_path: Path) -> None:
    import gzip

    with gzip.open(tmp_path / "asked.csv.gz", "wt") as file:
        file.write("request_id,items\nx,a b\n")
    found: Any = dataset(str(tmp_path / "asked.csv.gz")).to_table().to_pylist()
    assert found == [{"request_id": "x", "items": "a b"}]
