"""The collector in front of a real Kafka: what it acknowledged is in the topic, once."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.serve.service import Service, ask, service
from tests.serve.test_kill import bombard

pytestmark = pytest.mark.cluster

OPEN = ("--set=collector.rate=1000000", "--set=collector.burst=1000000")


def topics(kafka: str) -> tuple[str, str, str]:
    """Two new topics, and the setting that names them."""
    events, rejected = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("events", "rejected"))
    admin = AdminClient({"bootstrap.servers": kafka})
    for done in admin.create_topics([NewTopic(n, 2, 1) for n in (events, rejected)]).values():
        done.result(30)
    said = {"servers": kafka, "topic": events, "rejected_topic": rejected}
    return events, rejected, f"--set=collector.kafka={json.dumps(said)}"


def lines_of(kafka: str, topic: str) -> list[dict[str, Any]]:
    """Every line of the topic, up to where it ends now."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "tests"})
    found: list[dict[str, Any]] = []
    try:
        for partition in consumer.list_topics(topic, 10).topics[topic].partitions:
            first, last = consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)
            consumer.assign([TopicPartition(topic, partition, first)])
            for _ in range(last - first):
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                found.append(json.loads(message.value()))
    finally:
        consumer.close()
    return found


def test_events_go_to_one_topic_and_rejected_ones_to_the_other(kafka: str, tmp_path: Path) -> None:
    events, rejected, setting = topics(kafka)
    with service(tmp_path, setting) as running:
        assert ask(running, '[{"event_id": "a"}, 3, {"event_id": "b"}]').status == 207
        running.end(signal.SIGTERM)
        assert running.process.returncode == 0
    assert sorted(event["event_id"] for event in lines_of(kafka, events)) == ["a", "b"]
    assert [row["raw"] for row in lines_of(kafka, rejected)] == ["3"]


def test_what_was_acknowledged_before_a_kill_is_in_the_topic_once(
    kafka: str, tmp_path: Path
) -> None:
    events, _, setting = topics(kafka)
    acknowledged: set[str] = set()
    sent = 0
    for _ in range(3):
        with service(tmp_path, setting, *OPEN) as running:
            more, sent = asyncio.run(bombard(running, sent, 1.0))
            acknowledged |= more
    found = [str(event["event_id"]) for event in lines_of(kafka, events)]
    assert len(acknowledged) > 100
    assert acknowledged <= set(found)
    assert len(found) == len(set(found)) <= sent


def test_without_a_broker_nothing_is_acknowledged(tmp_path: Path) -> None:
    said = {"servers": "localhost:1", "conf": {"message.timeout.ms": "1000"}}
    running: Service
    with service(tmp_path, f"--set=collector.kafka={json.dumps(said)}") as running:
        assert ask(running, "{}").status == 503
