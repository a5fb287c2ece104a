from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recsys_lib.adapters.sources.files import CORRUPT, fingerprint, read_log, readable
from recsys_lib.errors import SourceError


def test_csv_lines_that_do_not_fit_keep_their_text(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\n1,a\n2\n3,c,extra\n4,d\n")
    rows = read_log(spark, str(tmp_path / "log.csv")).collect()
    good = [(r["user"], r["item"]) for r in rows if r[CORRUPT] is None]
    assert good == [("1", "a"), ("4", "d")]
    assert sorted(r[CORRUPT] for r in rows if r[CORRUPT] is not None) == ["2", "3,c,extra"]


def test_half_a_record_and_a_letter_that_is_not_utf_8_are_no_rows(
    spark: SparkSession, tmp_path: Path
) -> None:
    good = ['1,"a ""q"", b"', '2,5" pipe', '3,"5"" pipe"', "4,M\u00fcller", '5,"a "q" b"']
    torn = ['6,"hello', 'wor,ld"', '7,"', '8,"a ""']
    text = "\n".join(["user,item", *good, *torn])
    (tmp_path / "log.csv").write_bytes(text.encode() + b"\n9,M\xfcller\n9,M\xf6ller\n")
    rows = read_log(spark, str(tmp_path / "log.csv")).collect()
    kept = [(r["user"], r["item"]) for r in rows if r[CORRUPT] is None]
    assert [user for user, _ in kept] == ["1", "2", "3", "4", "5"]
    assert [item for _, item in kept[:4]] == ['a "q", b', '5" pipe', '5" pipe', "M\u00fcller"]
    assert [r[CORRUPT] for r in rows][5:] == [*torn, *["9,M\ufffdller"] * 2]


def test_files_may_have_their_columns_in_any_order(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("user,item\n1,a\n")
    (tmp_path / "2.csv").write_text("item;user\nb;2\n")
    with gzip.open(tmp_path / "3.csv.gz", "wt") as packed:
        packed.write("\ufeffuser,item\n3,c\n")
    rows = read_log(spark, str(tmp_path)).select("user", "item").collect()
    assert sorted(map(tuple, rows)) == [("1", "a"), ("2", "b"), ("3", "c")]


def test_json_lines_that_do_not_parse_keep_their_text(spark: SparkSession, tmp_path: Path) -> None:
    # Spark itself reads the first of two objects and is silent about the rest of the line.
    torn = ['{"user": 2, "it', '{"user": 3}{"user": 4}', '{"user": 5}] {}', '{"user": 6} x']
    lines = ['{"user": 12345, "item": "a"}', *torn, ' {"user": 7, "user": 8} ']
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    rows = read_log(spark, str(tmp_path / "log.jsonl")).collect()
    assert [(r["user"], r["item"], r[CORRUPT]) for r in rows] == [
        ("12345", "a", None),
        *((None, None, line) for line in torn),
        ("8", None, None),
    ]


def test_a_file_is_read_by_its_name_and_not_by_a_pattern(
    spark: SparkSession, tmp_path: Path
) -> None:
    for name in ("a1", "a[12]", "a{1,2}", "a*", "a?", "a\\1"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"user": name}))
    (tmp_path / "csv[1]").mkdir()
    (tmp_path / "csv[1]" / "b(1) %20[x].csv").write_text("user\nc\n")
    rows = read_log(spark, str(tmp_path / "csv[1]")).collect()
    assert [r["user"] for r in rows] == ["c"]
    (tmp_path / "csv[1]" / "b(1) %20[x].csv").unlink()
    rows = read_log(spark, str(tmp_path)).collect()
    assert sorted(r["user"] for r in rows) == sorted(["a1", "a[12]", "a{1,2}", "a*", "a?", "a\\1"])


def test_nanosecond_times_of_pandas_are_read_to_the_microsecond(
    spark: SparkSession, tmp_path: Path
) -> None:
    times = pd.to_datetime(["2017-01-01 11:53:26.000001", None])
    frame = pd.DataFrame({"t": times.astype("datetime64[ns]"), "n": [1, 2]})
    frame.to_parquet(tmp_path / "log.parquet", version="2.6")
    rows = read_log(spark, str(tmp_path / "log.parquet")).selectExpr("cast(t as string) AS t", "n")
    assert [tuple(r) for r in rows.collect()] == [("2017-01-01 11:53:26.000001", 1), (None, 2)]


def test_a_number_with_gaps_is_the_text_that_it_is_in_another_file(
    spark: SparkSession, tmp_path: Path
) -> None:
    pd.DataFrame({"user": [12345678.0, 0.5, None]}).to_parquet(tmp_path / "1.parquet")
    pd.DataFrame({"user": ["12345678"]}).to_parquet(tmp_path / "2.parquet")
    rows = read_log(spark, str(tmp_path)).collect()
    assert [r["user"] for r in rows] == ["12345678", "0.5", None, "12345678"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("log.parquet", b"PAR1 cut off", "not a readable Parquet file"),
        ("log.csv", b"", "needs a header"),
        ("log.csv", b"a,a\n1,2\n", "must differ"),
        ("log.xlsx", b"x", "must end in"),
        ("log.jsonl", b"not json\n", "no line is a JSON object"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    spark: SparkSession, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=f"(?s){name}.*{says}"):
        read_log(spark, str(tmp_path / name))


def test_one_damaged_file_of_a_folder_stops_the_log(spark: SparkSession, tmp_path: Path) -> None:
    pd.DataFrame({"n": [1]}).to_parquet(tmp_path / "1.parquet")
    (tmp_path / "2.parquet").write_bytes((tmp_path / "1.parquet").read_bytes()[:-9])
    with pytest.raises(SourceError, match=r"2.parquet is not a readable"):
        read_log(spark, str(tmp_path))


def test_a_gz_that_ends_early_is_named_when_it_is_met(spark: SparkSession, tmp_path: Path) -> None:
    whole = gzip.compress(b"user,item\n" + b"".join(b"%d,%d\n" % (i, i * 7) for i in range(9999)))
    (tmp_path / "log.csv.gz").write_bytes(whole[: len(whole) // 2])
    rows = read_log(spark, str(tmp_path / "log.csv.gz"))
    wanted = pytest.raises(SourceError, match=r"log.csv.gz cannot be read to its end")
    with wanted, readable("the log"):
        rows.toPandas()


def test_what_is_not_there_is_named(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        read_log(spark, str(tmp_path / "gone.csv"))
    with pytest.raises(SourceError, match="holds no CSV"):
        read_log(spark, str(tmp_path))
    with pytest.raises(SourceError, match="no installed package is named 'no_such'"):
        read_log(spark, "package:no_such/log.csv")


def test_a_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id\n1\n")
    before = fingerprint(str(tmp_path / "t.csv"))
    assert fingerprint(str(tmp_path / "t.csv")) == before
    (tmp_path / "t.csv").write_text("id\n1\n2\n")
    assert fingerprint(str(tmp_path / "t.csv")) != before


def test_field_names_of_a_hostile_line_leave_the_others_as_they_are(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines = ['{"user": 1, "item": "a"}', '{"user": 2}', '{"User": 3, "a`b": 5, "a.b": 6}']
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, '{"_corrupt_record": {"user": 7}}']))
    rows = read_log(spark, str(tmp_path / "log.jsonl"))
    assert {"user", "User_", "item", "a'b", "a.b", "_corrupt_record_"} < set(rows.columns)
    assert [r["user"] for r in rows.collect()] == ["1", "2", None, None]
    assert [r["User_"] for r in rows.collect()] == [None, None, "3", None]
    assert [r[CORRUPT] for r in rows.collect()] == [None] * 4


def test_a_json_line_is_one_row_whatever_it_holds(spark: SparkSession, tmp_path: Path) -> None:
    odd = ["[]", '[{"user": 1}, {"user": 2}]', "3", "null", '"user"', "\x00", "[" * 5000]
    text = "\ufeff" + "\n".join(['{"user": 1}', "", *odd, " \t", '{"user": 2}'])
    (tmp_path / "log.jsonl").write_text(text)
    rows = read_log(spark, str(tmp_path / "log.jsonl")).collect()
    assert [r["user"] for r in rows] == ["1", *[None] * len(odd), "2"]
    assert [r[CORRUPT] for r in rows] == [None, *odd, None]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("log.csv", [b"user,item", b"1,a", b"2,\xff", b"3,b"]),
        ("wide.csv", [b"user,item", b"1,a", b"\xff" + b"," * 100_000, b"3,b"]),
        ("log.jsonl", [b'{"user": 1}', b'{"user": 2, "item": "\xff"}', b'{"user": 3}']),
    ],
)
def test_a_wrong_byte_is_the_trouble_of_its_own_line(
    spark: SparkSession, tmp_path: Path, name: str, lines: list[bytes]
) -> None:
    (tmp_path / name).write_bytes(b"\n".join(lines))
    rows = read_log(spark, str(tmp_path / name)).collect()
    assert [rows[0]["user"], rows[2]["user"]] == ["1", "3"]
    assert "\ufffd" in (rows[1][CORRUPT] or rows[1]["item"])
