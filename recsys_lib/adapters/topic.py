"""A Kafka topic as a sink: `keep` returns when every in-sync replica has the lines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaException, Producer

from recsys_lib.settings import CollectorTopics

LAST_SECONDS = 30.0


class KafkaTopic:
    """Idempotent producer, acks=all: a retry inside the client never writes a line twice."""

    def __init__(self, settings: CollectorTopics, topic: str, count: Callable[..., None]) -> None:
        self.topic, self._count = topic, count
        self._settings = {
            "linger.ms": 2,
            "message.timeout.ms": int(LAST_SECONDS * 1000),
            **settings.conf,
            "bootstrap.servers": settings.servers,
            "acks": "all",
            "enable.idempotence": True,
        }
        self._producer: Any = None
        self._stop = threading.Event()
        self._poller = threading.Thread(target=self._poll, name=f"kafka-{topic}", daemon=True)

    async def open(self) -> None:
        """Raises OSError where the settings are refused; brokers are only met with a line."""
        try:
            self._producer = Producer(self._settings)
        except KafkaException as error:
            raise OSError(f"collector.kafka: {error}") from error
        self._poller.start()

    async def keep(self, lines: Sequence[bytes]) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        left = len(lines)
        failed: list[str] = []

        def delivered(error: Any, _: Any) -> None:
            """In the poller's thread, once for each line."""
            nonlocal left
            left -= 1
            if error is not None:
                failed.append(str(error))
            if not left:
                loop.call_soon_threadsafe(_settle, future, failed)

        for number, line in enumerate(lines):
            try:
                self._producer.produce(self.topic, line, on_delivery=delivered)
            except (BufferError, KafkaException) as error:
                raise OSError(f"{self.topic}: {len(lines) - number} lines not sent: {error}") from (
                    error
                )
        await future
        self._count("commits_total", stream=self.topic)

    async def close(self) -> None:
        await asyncio.to_thread(self._producer.flush, LAST_SECONDS)
        self._stop.set()
        await asyncio.to_thread(self._poller.join)

    def _poll(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(0.1)


def _settle(future: asyncio.Future[None], failed: list[str]) -> None:
    if future.done():
        return
    if failed:
        future.set_exception(OSError(failed[0]))
    else:
        future.set_result(None)
