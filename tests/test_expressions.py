from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_lib.errors import SettingsError
from recsys_lib.expressions import check, column, identifier


@pytest.mark.parametrize(
    ("kind", "value", "id_"),
    [
        ("bigint", 12345, "12345"),
        ("double", 12345.0, "12345"),
        ("double", 1.5, "1.5"),
        ("double", float("nan"), None),
        ("decimal(10,2)", Decimal("7.00"), "7"),
        ("string", "17850.0", "17850"),
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


def test_every_fault_of_a_mapping_comes_at_once_with_the_nearest_name(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("x", 1.0)], "CustomerID string, UnitPrice double")
    texts = {"user": "CustomrID", "value": "UnitPrise * 2", "type": "upper(", "order": None}
    with pytest.raises(SettingsError) as caught:
        check("shop.yaml", {**texts, "rejects.cheap": "UnitPrice"}, rows, boolean="rejects.")
    faults = caught.value.faults
    assert len(faults) == 4
    assert "user: no column 'CustomrID'; did you mean 'CustomerID'?" in faults[0]
    assert "did you mean 'UnitPrice'?" in faults[1]
    assert "not valid SQL" in faults[2]
    assert "must be a condition, got a double" in faults[3]
