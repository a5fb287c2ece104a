from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recsys_lib.adapters.sources.feed import Feed
from recsys_lib.adapters.sources.folder import files_feed
from recsys_lib.errors import SettingsError
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
