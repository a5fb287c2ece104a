"""Kafka as a sink, against the broker that librdkafka brings along for tests."""

from __future__ import annotations

import asyncio

import pytest

from recsys_lib.adapters.topic import KafkaTopic
from recsys_lib.errors import SettingsError
from recsys_lib.serve.counters import Counters
from recsys_lib.settings import CollectorTopics


def kept(conf: dict[str, str], *writes: list[bytes], servers: str = "127.0.0.1:1") -> str:
    """The counters after these writes, all at once."""

    async def run() -> str:
        counters = Counters()
        settings = CollectorTopics(servers=servers, conf=conf)
        topic = KafkaTopic(settings, "events", counters.add)
        await topic.open()
        try:
            await asyncio.gather(*(topic.keep(lines) for lines in writes))
        finally:
            await topic.close()
        return counters.text()

    return asyncio.run(run())


def test_lines_are_kept_when_all_replicas_have_them() -> None:
    writes = [[b'{"user": %d}' % n] * 50 for n in range(20)]
    text = kept({"test.mock.num.brokers": "3"}, *writes)
    assert 'commits_total{stream="events"} 20' in text


def test_lines_that_no_broker_takes_are_not_kept() -> None:
    with pytest.raises(OSError, match=r"timed out|timeout"):
        kept({"message.timeout.ms": "500"}, [b"{}"])


def test_a_setting_that_kafka_does_not_know_is_told() -> None:
    with pytest.raises(SettingsError, match=r"(?s)collector.kafka.*no.such"):
        kept({"no.such": "1"}, [b"{}"])


def test_no_setting_makes_it_forget_to_wait_for_the_replicas() -> None:
    topic = KafkaTopic(CollectorTopics(servers="x:1", conf={"acks": "0"}), "events", Counters().add)
    assert topic.client_settings["acks"] == "all"
    assert topic.client_settings["enable.idempotence"] is True
