from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from recsys_lib.adapters.commits import (
    DataFile,
    Span,
    added_since,
    appended_files,
    moment,
    rows_of,
    span_of,
    written_rows,
)
from recsys_lib.errors import LakeError
from recsys_lib.types import Increment


def file(low: object, high: object, rows: int = 1) -> DataFile:
    ends = {"minValues": {"at": low}, "maxValues": {"at": high}, "nullCount": {"at": 0}}
    return DataFile("x", stats={"numRecords": rows, **ends})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-05T04:12:25.295Z", datetime(2026, 1, 5, 4, 12, 25, 295_000, tzinfo=UTC)),
        (1_000_000, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("+294247-01-10T04:00:54.775Z", datetime.max.replace(tzinfo=UTC)),
        ("-0044-03-15T12:00:00.000Z", datetime.min.replace(tzinfo=UTC)),
        ("0000-01-01T00:00:00.000Z", datetime.min.replace(tzinfo=UTC)),
        (2**63 - 1, datetime.max.replace(tzinfo=UTC)),
        (-(2**63), datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_times_that_python_cannot_write_become_the_nearest(
    value: str | int, expected: datetime
) -> None:
    assert moment(value) == expected


def test_a_span_covers_all_files_and_passes_over_those_without_a_value() -> None:
    assert span_of([file(3, 5), file(None, None), file(1, 4)], "at", int) == Span(1, 5)
    assert span_of([file(None, None)], "at", int) == Span()


def test_partitions_are_compared_as_what_they_mean() -> None:
    files = [DataFile("x", {"window": "9"}), DataFile("y", {"window": "10"})]
    assert span_of(files, "window", int) == Span(9, 10)


def test_without_statistics_nothing_is_claimed() -> None:
    assert span_of([file(1, 2), DataFile("x")], "at", int) is None
    assert rows_of([file(1, 2), DataFile("x")]) is None
    assert rows_of([file(1, 2, rows=3), file(1, 2, rows=4)]) == 7


def test_the_rows_of_one_write_are_told_by_its_transaction(tmp_path: Path) -> None:
    for version, rows in enumerate((2, 3)):
        write_deltalake(
            tmp_path,
            pa.table({"id": list(range(rows))}),
            mode="append",
            commit_properties=CommitProperties(app_transactions=[Transaction("me", version)]),
        )
    path = str(tmp_path)
    assert [written_rows(path, "me", version) for version in (0, 1, 2)] == [2, 3, None]
    assert written_rows(path, "you", 0) is None
    assert len(added_since(path, 1)) == 1
    assert rows_of(appended_files(path, Increment("t", 0, 2))) == 5
    assert rows_of(appended_files(path, Increment("t", 1, 2))) == 3


def test_only_a_version_that_the_log_has_forgotten_is_told_as_such(tmp_path: Path) -> None:
    table = str(tmp_path / "t")
    for _ in range(2):
        write_deltalake(table, pa.table({"n": [1]}), mode="append")
    first, commit = Increment("t", 0, 1), Path(table, "_delta_log", f"{0:020d}.json")
    whole = commit.read_text()
    commit.write_text("{")
    with pytest.raises(DeltaError):
        appended_files(table, first)
    commit.write_text(whole)
    DeltaTable(table).create_checkpoint()
    commit.unlink()
    with pytest.raises(LakeError, match=r"no longer in its log.*lake\.keep_hours"):
        appended_files(table, first)
