"""A checkpoint belongs to one source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_lib.adapters.sources.feed import Feed, run_feed
from recsys_lib.adapters.sources.folder import files_feed
from recsys_lib.adapters.sources.http import http_feed
from recsys_lib.adapters.sources.jdbc import Table, jdbc_feed
from recsys_lib.adapters.sources.kafka import kafka_feed
from recsys_lib.errors import SettingsError
from recsys_lib.settings import FilesSettings, HttpSettings, JdbcSettings, KafkaSettings

URL = "jdbc:mariadb://one:3306/shop"


class StartedError(Exception):
    """The feed was asked for its stream."""


def run(feed: Feed, folder: Path) -> None:
    def stream() -> Any:
        raise StartedError

    with pytest.raises(StartedError):
        run_feed(replace(feed, stream=stream), str(folder), lambda *_: 0)


def refused(feed: Feed, folder: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        run_feed(feed, str(folder), lambda *_: 0)
    return str(caught.value)


def test_another_broker_does_not_go_on_where_the_first_one_was(
    spark: SparkSession, tmp_path: Path
) -> None:
    def feed(servers: str) -> Feed:
        return kafka_feed(spark, KafkaSettings(servers=servers, topic="events"))

    run(feed("a:9092,b:9092"), tmp_path)
    run(feed("b:9092, a:9092"), tmp_path)
    told = refused(feed("c:9092"), tmp_path)
    kept = tmp_path / "kafka-events.source.json"
    assert "kafka.servers must be a:9092,b:9092" in told
    assert "got c:9092; give another source another --out" in told
    assert f"delete {kept}" in told
    kept.unlink()
    run(feed("c:9092"), tmp_path)


def test_another_query_of_an_api_is_another_source_and_keys_stay_secret(
    spark: SparkSession, tmp_path: Path
) -> None:
    def feed(query: str = "", **parameters: str) -> Feed:
        url = f"https://api.shop/events{query}"
        return http_feed(spark, HttpSettings(url=url, start="2024-01-01", parameters=parameters))

    run(feed(shop="1", key="s3cret"), tmp_path)
    run(feed("?shop=1", key="s3cret"), tmp_path)
    assert "http.parameters.shop must be" in refused(feed(shop="2", key="s3cret"), tmp_path)
    assert "s3cret" not in "".join(f.read_text() for f in tmp_path.glob("*.json"))


def test_another_database_is_another_source_and_other_options_are_not(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Table, "check", lambda _: {})

    def feed(url: str, table: str = "shop.events") -> Feed:
        return jdbc_feed(spark, JdbcSettings(url=url, user="u"), table, str(tmp_path))

    run(feed(f"{URL}?password=s3cret"), tmp_path)
    run(feed(URL.replace("mariadb", "mysql")), tmp_path)
    told = refused(feed("jdbc:mariadb://two:3306/shop"), tmp_path)
    assert "jdbc.url must be one:3306/shop" in told
    assert "shop-events" in refused(feed(URL, "shop-events"), tmp_path)


def test_a_folder_is_known_by_its_path(spark: SparkSession, tmp_path: Path) -> None:
    for name in ("a-b", "a/b"):
        (tmp_path / name).mkdir(parents=True)
    run(files_feed(spark, FilesSettings(path=str(tmp_path / "a-b"))), tmp_path)
    told = refused(files_feed(spark, FilesSettings(path=str(tmp_path / "a/b"))), tmp_path)
    assert "files.path must be" in told
