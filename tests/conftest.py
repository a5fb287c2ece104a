"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.spark import spark_session
from recsys_lib.settings import SparkSettings

INTERPRETED = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
"""On a handful of rows, to compile a plan takes longer than to run it."""


@pytest.hookimpl(tryfirst=True)  # before the names of groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` shares the tests between two processes: a file goes to one of them, and all files
    that look at one finished replay go to the same. What takes minutes begins first."""
    finished = {item.path for item in items if "finished" in getattr(item, "fixturenames", ())}
    for item in items:
        group = "finished" if item.path in finished else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))

    def turn(item: pytest.Item) -> tuple[bool, bool]:
        return item.path not in finished, item.get_closest_marker("slow") is None

    items.sort(key=turn)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One session for all tests: starting one takes longer than most of them."""
    settings = SparkSettings(master="local[2]", driver_memory="1g", conf=INTERPRETED)
    with spark_session(settings, "tests") as session:
        yield session


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(spark, str(tmp_path / "lake"))
