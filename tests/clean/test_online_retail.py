"""The dirt of UCI Online Retail, row by row, through its own mapping."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import functions as F

from recsys_lib.adapters.lake import Lake
from recsys_lib.clean.recipe import clean_increment
from recsys_lib.ingest.axis import find_axis
from recsys_lib.ingest.bronze import check_mapping, parse
from recsys_lib.mapping import load_mapping
from recsys_lib.settings import CleanSettings

MAPPING = load_mapping(Path(__file__).parents[2] / "conf" / "mappings" / "online_retail.yaml")
RAW = (
    "InvoiceNo string, StockCode string, Description string, Quantity bigint, "
    "InvoiceDate timestamp, UnitPrice double, CustomerID bigint, Country string"
)


def line(invoice: str, item: str, quantity: int, day: int, price: float, user: int | None) -> tuple:
    when = datetime(2011, 1, day, tzinfo=UTC)
    return invoice, item, "WHITE LANTERN", quantity, when, price, user, "France"


def test_every_row_is_kept_or_aside_by_the_reason_it_is_known_for(lake: Lake) -> None:
    sale = line("536365", "85123A", 6, 3, 2.55, 17850)
    rows = [
        sale,
        sale,
        sale,
        line("536366", "71053", 1, 3, 3.39, None),
        line("C536379", "85123A", -1, 4, 2.55, 17850),
        line("C536380", "85123A", -1, 2, 2.55, 17850),
        line("C536381", "71053", -1, 4, 3.39, 17850),
        line("C536382", "71053", -1, 4, 3.39, None),
        line("536400", "71053", -5, 4, 3.39, 17850),
        line("536401", "71053", 5, 4, 0.0, 17850),
        line("536402", "71053", 5, 4, 3.39, 13047),
    ]
    raw = lake.spark.createDataFrame(rows, RAW)
    check_mapping(raw, MAPPING)
    parsed = parse(raw, MAPPING, find_axis(raw, MAPPING, "1990-01-01"))
    lake.append_once(
        "bronze",
        parsed.withColumns({"arrived": F.current_timestamp(), "batch": F.lit(0)}),
        app="test",
        version=0,
    )
    counts = clean_increment(lake, 5, MAPPING, CleanSettings())
    assert counts["by_rule"] == {
        "duplicate": 2,
        "missing_user": 2,
        "not_positive_price": 1,
        "not_positive_quantity": 1,
        "return": 1,
        "return_without_sale": 2,
    }
    assert counts["silver"] == 2
