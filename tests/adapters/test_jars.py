"""The jars: what is missing, what is copied, and nothing that Spark has already."""

from pathlib import Path

import pytest

from recsys_lib.adapters import jars
from recsys_lib.errors import AlluviumError


def placed(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("jar", encoding="utf-8")
    return folder


def test_the_coordinate_carries_the_minor_version_of_spark() -> None:
    assert jars.delta_package("4.2.0", "4.4.0") == "io.delta:delta-spark_4.2_2.13:4.4.0"


def test_nothing_is_missing_when_both_jars_are_there(tmp_path: Path) -> None:
    placed(tmp_path, "delta-spark_4.2_2.13-4.4.0.jar", "delta-storage-4.4.0.jar")
    assert jars.missing(tmp_path, "4.4.0") == []


def test_a_jar_of_another_version_is_missing(tmp_path: Path) -> None:
    placed(tmp_path, "delta-spark_4.2_2.13-4.3.0.jar", "delta-storage-4.4.0.jar")
    assert jars.missing(tmp_path, "4.4.0") == ["delta-spark"]


def test_only_jars_of_delta_are_copied() -> None:
    resolved = [
        "io.delta_delta-spark_4.2_2.13-4.4.0.jar",
        "io.delta_delta-storage-4.4.0.jar",
        "com.github.luben_zstd-jni-1.5.7-3.jar",
        "org.apache.hadoop_hadoop-client-api-3.4.2.jar",
    ]
    assert jars.to_copy(resolved) == {
        "io.delta_delta-spark_4.2_2.13-4.4.0.jar": "delta-spark_4.2_2.13-4.4.0.jar",
        "io.delta_delta-storage-4.4.0.jar": "delta-storage-4.4.0.jar",
    }


def fake_submit(home: Path, script: str) -> Path:
    """A pyspark folder whose spark-submit is `script`; its jars folder."""
    submit = placed(home / "bin", "spark-submit") / "spark-submit"
    submit.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    submit.chmod(0o755)
    return placed(home / "jars")


def test_fetched_jars_land_under_their_own_names(tmp_path: Path) -> None:
    ivy = placed(tmp_path / "ivy" / "jars", "io.delta_delta-storage-4.4.0.jar", "org.x_y-1.jar")
    folder = fake_submit(tmp_path / "pyspark", "exit 0")
    assert jars.fetch("p", folder, ivy.parent) == ["delta-storage-4.4.0.jar"]
    assert [file.name for file in folder.iterdir()] == ["delta-storage-4.4.0.jar"]


def test_a_failed_fetch_says_what_spark_said_and_leaves_no_jar(tmp_path: Path) -> None:
    script = "echo start; echo 'java.lang.RuntimeException: unresolved dependency'; exit 1"
    folder = fake_submit(tmp_path / "pyspark", script)
    with pytest.raises(AlluviumError, match="unresolved dependency; the first set-up needs the"):
        jars.fetch("io.delta:x:1", folder, tmp_path / "ivy")
    assert list(folder.iterdir()) == []
    assert "unresolved" in (tmp_path / "ivy" / "resolve.log").read_text(encoding="utf-8")


def test_this_environment_lacks_no_jar() -> None:
    from importlib.metadata import version

    assert jars.missing(jars.pyspark_home() / "jars", version("delta-spark")) == []
