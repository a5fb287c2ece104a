from __future__ import annotations

import json
from collections.abc import Collection

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from recsys_lib.ingest.reader import FieldReader
from recsys_lib.ingest.records import record_of, surveyed
from recsys_lib.types import RAW_RECORD
from tests.fuzz.hostile import TEXTS

NAMES = ("who", "WHO", "_corrupt_record", "__corrupt", "a.b", "a`b", "", "\x00", "é", "x" * 500)


def found(spark: SparkSession, payloads: list[str], strange: Collection[str]) -> list[Row]:
    rows = spark.createDataFrame(list(enumerate(payloads)), "n int, payload string")
    reader = FieldReader([(name, "string") for name in NAMES], strange)
    whole = record_of(F.col("payload")).isNotNull()
    opened = reader.open(rows.withColumn("whole", whole), F.col("n"))
    texts = [reader.field(name, "string").alias(f"c{n}") for n, name in enumerate(NAMES)]
    return opened.select("n", *texts).orderBy("n").collect()


def test_a_text_read_from_the_text_is_that_of_the_variant(spark: SparkSession) -> None:
    whole = [json.dumps(dict.fromkeys(NAMES, text)) for text in TEXTS]
    plain = [json.dumps(dict.fromkeys(NAMES, text), ensure_ascii=False) for text in TEXTS]
    halves = [f'{{"who": "{half}", "more": [{{"who": 1}}]}}' for half in (r"\ud800", r"\udc00 x")]
    payloads = [*whole, *plain, *halves, "{}", '{"who": null}', ' {"WHO" : "\\u0041\\/"} ']
    of_text, of_variant = (found(spark, payloads, strange) for strange in ((), NAMES))
    assert of_text == of_variant
    assert [row["c0"] for row in of_text[: len(TEXTS)]] == list(TEXTS)


def test_a_field_that_is_ever_anything_but_text_is_strange(spark: SparkSession) -> None:
    rows = [
        ('{"a": "x", "b": "x", "c": null, "d": 1}', "t", 0, 0, True, None, None),
        ('{"a": "y", "b": 2, "c": "x"}', "t", 0, 1, True, None, None),
        ('{"a": "1", "e": "x", "f": {}}', "t", 0, 2, False, None, None),
        ("no object", "t", 0, 3, True, None, None),
    ]
    kept, survey = surveyed(spark.createDataFrame(rows, RAW_RECORD))
    kept.unpersist()
    assert (survey.rows, survey.objects) == (4, 3)
    assert survey.strange == {"b", "d", "f"}
    assert survey.numbers == {"d"}


def test_a_number_read_from_the_text_is_that_of_the_variant(spark: SparkSession) -> None:
    texts = ("0", "-0", "1.50", "1e3", "-2.5E-7", "9007199254740993", "1" * 40, "0." + "3" * 60)
    payloads = [*(f'{{"it": {text}}}' for text in texts), '{"it": null}', "{}", "[1]"]
    rows = spark.createDataFrame(list(enumerate(payloads)), "n int, payload string")
    opened = rows.withColumn("whole", record_of(F.col("payload")).isNotNull())

    def numbers(alone: Collection[str]) -> list[float | None]:
        reader = FieldReader([("it", "double")], ("it",), alone)
        told = reader.open(opened, F.col("n")).select("n", reader.field("it", "double").alias("it"))
        return [row["it"] for row in told.orderBy("n").collect()]

    assert numbers({"it"}) == numbers(()) == [*map(float, texts), None, None, None]
