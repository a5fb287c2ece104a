"""The cluster of these tests: started when the first test asks for a part, ended with the last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.cluster.cluster import Cluster
from tests.cluster.live import Live
from tests.cluster.process import MissingError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Nothing runs yet. What killed test runs left behind is ended first."""
    folder = ROOT / "build" / "cluster"
    for left in folder.glob("test-*"):
        if not Path(f"/proc/{left.name.partition('-')[2]}").exists():
            Cluster(folder, left.name).down()
    made = Cluster(folder, f"test-{os.getpid()}")
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="session")
def hdfs(cluster: Cluster) -> str:
    return _started(cluster, "hdfs")


@pytest.fixture(scope="session")
def kafka(cluster: Cluster) -> str:
    return _started(cluster, "kafka")


@pytest.fixture(scope="session")
def mariadb(cluster: Cluster) -> str:
    return _started(cluster, "mariadb")


@pytest.fixture(scope="session")
def yarn(cluster: Cluster, hdfs: str) -> str:
    return _started(cluster, "yarn")


@pytest.fixture(scope="session")
def standalone(cluster: Cluster) -> str:
    return _started(cluster, "spark")


@pytest.fixture(scope="session")
def mlflow(cluster: Cluster) -> str:
    return _started(cluster, "mlflow")


@pytest.fixture
def live(spark: SparkSession, hdfs: str, tmp_path: Path) -> Live:
    """A lake of its own on HDFS, and jobs that land in it."""
    return Live(spark, tmp_path, f"{hdfs}/{tmp_path.name}")


def _started(cluster: Cluster, part: str) -> str:
    reason = cluster.missing(part) or cluster.unconnected(part)
    try:
        if reason is None:
            cluster.up([part])
    except MissingError as error:
        reason = str(error)
    if reason is not None:
        pytest.skip(f"without {part}: {reason}")
    return cluster.addresses()[part]
