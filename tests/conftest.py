"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.spark import spark_session
from recsys_lib.settings import SparkSettings

CONF = {
    # On a handful of rows, to compile a plan takes longer than to run it.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # Kept for an hour, in 3 MB each, the tables of a thousand tests would fill the heap.
    "spark.databricks.delta.delta.log.cacheSize": "48",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` shares the files between two processes: what takes minutes begins first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One session for all tests: starting one takes longer than most of them."""
    settings = SparkSettings(master="local[2]", driver_memory="1536m", conf=CONF)
    with spark_session(settings, "tests") as session:
        yield session


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(spark, str(tmp_path / "lake"))
