from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fsspec.implementations.local import LocalFileSystem
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from recsys_lib.adapters.sources import folder
from recsys_lib.adapters.sources.feed import Feed
from recsys_lib.adapters.sources.folder import files_feed, read_good_files
from recsys_lib.errors import SettingsError, StorageError
from recsys_lib.settings import FilesSettings
from tests.adapters.sources.landed import Landed


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def landed(tmp_path: Path) -> Landed:
    return Landed(tmp_path)


def feed(spark: SparkSession, inbox: Path) -> Feed:
    return files_feed(spark, FilesSettings(path=str(inbox), max_files_per_batch=3))


def users(landed: Landed) -> list[str]:
    good = [row["payload"] for row in landed.rows if row["problem"] is None]
    return sorted(str(json.loads(payload)["user"]) for payload in good)


def problems(landed: Landed) -> dict[str, str]:
    """{name of the file: rule}"""
    bad = [row for row in landed.rows if row["problem"] is not None]
    return {row["origin"].rsplit("/", 1)[-1]: row["problem"] for row in bad}


def test_files_of_every_format_land_together_and_once(
    spark: SparkSession, inbox: Path, landed: Landed
) -> None:
    (inbox / "1.jsonl").write_text('\ufeff{"user": "a"}\n\n{"user": "b"}\n')
    (inbox / "2[1].csv").write_text("user,item\nc,1\n")
    with gzip.open(inbox / "3.csv.gz", "wt") as packed:
        packed.write("item;user\n1;d\n")
    (inbox / "deep").mkdir()
    pd.DataFrame({"user": ["e"]}).to_parquet(inbox / "deep" / "4.parquet")
    with gzip.open(inbox / "5.json.gz", "wt") as packed:
        packed.write('{"user": "f"}\n')
    assert landed.run(feed(spark, inbox)) == 6
    assert users(landed) == ["a", "b", "c", "d", "e", "f"]
    assert landed.run(feed(spark, inbox)) == 0
    (inbox / "6.jsonl").write_text('{"user": "g"}\n')
    assert landed.run(feed(spark, inbox)) == 1


def test_damaged_files_are_told_and_the_others_land(
    spark: SparkSession, inbox: Path, landed: Landed
) -> None:
    lines = "".join(f'{{"user": "u{n}", "x": "{n * 7919 % 10007}"}}\n' for n in range(9999))
    whole = gzip.compress(lines.encode())
    (inbox / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (inbox / "noise.csv.gz").write_bytes(b"\x00\x01 no gzip")
    pd.DataFrame({"user": range(9999)}).to_parquet(inbox / "whole.parquet")
    data = (inbox / "whole.parquet").read_bytes()
    (inbox / "whole.parquet").unlink()
    (inbox / "cut.parquet").write_bytes(data[:-9])
    (inbox / "bent.parquet").write_bytes(data[:200] + bytes(3000) + data[3200:])
    (inbox / "twice.csv").write_text("a,a\n1,2\n")
    (inbox / "picture.png").write_bytes(b"\x89PNG")
    (inbox / "good.jsonl").write_text('{"user": "a"}\n')
    (inbox / "good.csv").write_text("user\nb\n")
    landed.run(feed(spark, inbox))
    assert users(landed) == ["a", "b"]
    names = ("cut.jsonl.gz", "noise.csv.gz", "cut.parquet", "bent.parquet", "twice.csv")
    assert problems(landed) == dict.fromkeys((*names, "picture.png"), "damaged_file")
    assert landed.run(feed(spark, inbox)) == 0


def test_a_line_that_is_cut_off_or_no_text_is_told_and_the_others_land(
    spark: SparkSession, inbox: Path, landed: Landed
) -> None:
    (inbox / "1.csv").write_text("user,item\na,1\nb\n")
    (inbox / "2.jsonl").write_bytes(b'{"user": "c"}\n{"user": "\xff"}\n')
    landed.run(feed(spark, inbox))
    assert users(landed) == ["a", "c"]
    assert problems(landed) == {"1.csv": "unreadable", "2.jsonl": "unreadable"}


def test_what_is_still_being_written_is_left_alone(
    spark: SparkSession, inbox: Path, landed: Landed
) -> None:
    for name in ("_1.jsonl", ".2.jsonl", "3.jsonl.tmp", "4.jsonl.part", "5.jsonl._COPYING_"):
        (inbox / name).write_text('{"user": "a"}\n{"us')
    assert landed.run(feed(spark, inbox)) == 0
    (inbox / "3.jsonl.tmp").rename(inbox / "3.jsonl")
    (inbox / "3.jsonl").write_text('{"user": "a"}\n')
    assert landed.run(feed(spark, inbox)) == 1


def test_a_whole_number_is_written_as_other_sources_write_it(
    spark: SparkSession, inbox: Path, landed: Landed
) -> None:
    numbers = pd.DataFrame({"user": [12345678.0, None, 7.0], "price": [1.5, 2.0, 1e300]})
    numbers.to_parquet(inbox / "1.parquet")
    landed.run(feed(spark, inbox))
    assert landed.column("payload") == [
        '{"price":2}',
        '{"user":12345678,"price":1.5}',
        '{"user":7,"price":1.0E300}',
    ]


def test_a_folder_that_is_not_there_is_named(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone must be a folder, make it"):
        files_feed(spark, FilesSettings(path=str(tmp_path / "gone")))
    with pytest.raises(SettingsError, match=r"files\.path must be set"):
        files_feed(spark, FilesSettings())


STORAGE = [
    (
        "java.io.FileNotFoundException: /1.jsonl (Permission denied)",
        "org.apache.hadoop.fs.RawLocal",
    ),
    ("java.io.FileNotFoundException: /1.jsonl (Too many open files)", "org.apache.hadoop.fs.RawL"),
    ("java.io.IOException: No space left on device", "org.apache.spark.storage.TimeTracking"),
    ("java.io.IOException: Stale file handle", "org.apache.hadoop.fs.RawLocalFileSystem"),
    (
        "java.io.EOFException: Premature EOF: no length prefix",
        "org.apache.hadoop.hdfs.protocolPB.P",
    ),
    ("s3.model.S3Exception: Please reduce your request rate", "software.amazon.awssdk.services.s3"),
    ("ExecutorLostFailure: Container killed by YARN", "org.apache.spark.scheduler.DAGScheduler"),
    ("java.lang.OutOfMemoryError: Java heap space", "org.apache.parquet.bytes.HeapByteBuffer"),
]


@pytest.mark.parametrize(("cause", "thrower"), STORAGE)
def test_what_the_bytes_are_not_to_blame_for_is_no_damage(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, cause: str, thrower: str
) -> None:
    java = "\tat java.base/java.io.FileInputStream.open0(Native Method)"
    told = (
        f"[FAILED_READ_FILE.NO_HINT] Cannot read 1\nCaused by: {cause}\n{java}\n\tat {thrower}.x()"
    )

    def fails(*_: object) -> None:
        raise PySparkException(told)

    monkeypatch.setattr(folder, "read_files", fails)
    with pytest.raises(StorageError, match=r"(?s)/1\.jsonl cannot be read now: .* goes on"):
        read_good_files(spark, ["/1.jsonl"])


@pytest.mark.parametrize("name", ["1.csv", "1.parquet"])
def test_a_file_that_may_not_be_read_yet_lands_when_it_may(
    spark: SparkSession, inbox: Path, landed: Landed, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rows, opened = pd.DataFrame({"user": ["a"]}), LocalFileSystem.open
    rows.to_csv(inbox / name, index=False) if "csv" in name else rows.to_parquet(inbox / name)

    def denied(fs: LocalFileSystem, path: str, *told: Any, **more: Any) -> Any:
        if path.endswith(name):
            raise PermissionError(13, "Permission denied")
        return opened(fs, path, *told, **more)

    with monkeypatch.context() as patched:
        patched.setattr(LocalFileSystem, "open", denied)
        with pytest.raises(StorageError, match=f"{name} .*Permission denied; let this user read"):
            landed.run(feed(spark, inbox))
    assert landed.run(feed(spark, inbox)) == 1
    assert problems(landed) == {}


def test_a_file_that_is_gone_or_has_no_header_does_not_stop_the_others(
    spark: SparkSession, inbox: Path
) -> None:
    (inbox / "1.jsonl").write_text('{"user": "a"}\n')
    (inbox / "2.csv").write_text(f'user,"{"x" * 200_000}"\na,1\n')
    packed = bytearray(gzip.compress(b"user\n" + bytes(range(256)) * 99))
    packed[10:40] = bytes([255] * 30)
    (inbox / "3.csv.gz").write_bytes(packed)
    gone = [str(inbox / f"gone.{ending}") for ending in ("csv", "jsonl", "parquet")]
    rows = read_good_files(spark, [*gone, *map(str, sorted(inbox.iterdir()))]).collect()
    assert sorted(str(row["problem"]) for row in rows) == ["None", *["damaged_file"] * 5]
