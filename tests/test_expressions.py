from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from recsys_lib.errors import SettingsError
from recsys_lib.expressions import check, column, faults, identifier, stamp


@pytest.mark.parametrize(
    ("kind", "value", "id_"),
    [
        ("bigint", 12345, "12345"),
        ("double", 12345.0, "12345"),
        ("double", 1.5, "1.5"),
        ("double", 12345678.0, "12345678"),
        ("double", 1e300, "1.0E300"),
        ("double", float("nan"), None),
        ("decimal(10,2)", Decimal("7.00"), "7"),
        ("string", "17850.0", "17850"),
        ("string", "1.2345678E7", "12345678"),
        ("string", "1.0E7", "10000000"),
        ("string", "1.23456789E7", "1.23456789E7"),
        ("string", "12E4", "12E4"),
        ("string", " 00123 ", "00123"),
        ("string", "  ", None),
        ("string", "v1.0", "v1.0"),
        ("string", None, None),
    ],
)
def test_an_id_is_a_clean_string(
    spark: SparkSession, kind: str, value: Any, id_: str | None
) -> None:
    rows = spark.createDataFrame([(value,)], f"id {kind}")
    assert rows.select(identifier("id", rows)).collect()[0][0] == id_


def test_a_price_below_one_is_not_below_zero(spark: SparkSession) -> None:
    """Spark would compare text with the integer 0 as integers."""
    rows = spark.createDataFrame([("0.42", "-0.5")], "price string, `Unit Price` string")
    texts = ["price <= 0", "`Unit Price` < 0", "0 >= price", "price BETWEEN 0 AND 0"]
    found = rows.select(*(column(text, rows).alias(f"c{i}") for i, text in enumerate(texts)))
    assert tuple(found.collect()[0]) == (False, True, False, False)


def test_a_column_may_have_any_name(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("x",)], "`Customer ID.1` string")
    assert rows.select(column("Customer ID.1", rows)).collect()[0][0] == "x"


def test_a_constant_without_quotes_is_told_how_to_write_it(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("x",)], "CustomerID string")
    assert """a constant has quotes of its own: "'buy'";""" in faults({"type": "buy"}, rows)[0]


def test_every_fault_of_a_mapping_comes_at_once_with_the_nearest_name(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("x", 1.0)], "CustomerID string, UnitPrice double")
    texts = {"user": "CustomrID", "value": "UnitPrise * 2", "type": "upper(", "order": None}
    texts = {**texts, "rejects.cheap": "UnitPrice"}
    found = faults(texts, rows, boolean=("rejects.",))
    assert len(found) == 4
    assert "user: no column 'CustomrID'; did you mean 'CustomerID'?" in found[0]
    assert "did you mean 'UnitPrice'?" in found[1]
    assert "not valid SQL" in found[2]
    assert "must be a condition, got a double" in found[3]
    with pytest.raises(SettingsError) as caught:
        check("shop.yaml", {"user": "CustomrID"}, rows)
    assert caught.value.faults == found[:1]


def test_a_stamp_is_one_value_for_all_rows(spark: SparkSession) -> None:
    rows = spark.range(100, numPartitions=4).select(stamp(F.lit(7)).alias("it"))
    assert {row["it"] for row in rows.collect()} == {7}


def test_what_is_compiled_for_one_stamp_serves_the_next(spark: SparkSession) -> None:
    compiling = {
        "spark.sql.codegen.wholeStage": "true",
        "spark.sql.codegen.factoryMode": "FALLBACK",
    }
    before = {key: spark.conf.get(key) for key in compiling}
    try:
        _set(spark, compiling)
        stamped = {said(spark, stamp(F.lit(n).cast("bigint"))) for n in (7, 8)}
        written = {said(spark, F.lit(n).cast("bigint")) for n in (7, 8)}
    finally:
        _set(spark, before)
    assert len(stamped) == 1
    assert len(written) == 2


def _set(spark: SparkSession, options: dict[str, Any]) -> None:
    for key, value in options.items():
        spark.conf.set(key, value)


def said(spark: SparkSession, value: Column) -> str:
    """The code that Spark writes for a projection with `value`."""
    plan = spark.range(9).select("id", value.alias("it"))._jdf.queryExecution().executedPlan()
    text = spark._jvm.org.apache.spark.sql.execution.debug.package.codegenString(plan)  # type: ignore[union-attr]
    return str(re.sub(r"(?s)^.*?Generated code:", "", text))
