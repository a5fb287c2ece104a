"""The collector: `POST /events` answers 202 when, and only when, the events are durable.

A batch is not all or nothing: its good events are accepted, the others are kept among the rejected
ones and named in the answer (207; 400 where none was good).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from recsys_lib.serve.counters import Counters
from recsys_lib.serve.events import Event, Refused, Wanted, refusal, split_body, stamp
from recsys_lib.serve.limits import Allowance
from recsys_lib.settings import CollectorSettings

SNIPPET = Path(__file__).with_name("snippet.js")
LONGEST_KEY = 200
FAILURE_SECONDS = 10.0
"""How long /health tells of a write that failed. A balancer sends nothing to who is not well: only
time can end that."""
log = logging.getLogger("alluvium.collector")


class Sink(Protocol):
    """Where lines go: a landing folder or a topic (see `recsys_lib.adapters`)."""

    async def open(self) -> None: ...

    async def keep(self, lines: Sequence[bytes]) -> None:
        """Returns when the lines are durable; raises OSError where they may not be."""

    async def close(self) -> None: ...


class EarlyError(Exception):
    """Ends a request early with this status."""

    def __init__(self, status: int, error: str, **headers: str) -> None:
        super().__init__(error)
        self.status, self.error, self.headers = status, error, headers


class Collector:
    def __init__(
        self,
        settings: CollectorSettings,
        wanted: Wanted,
        tokens: Sequence[str],
        events: Sink,
        rejected: Sink,
        counters: Counters,
    ) -> None:
        self.settings, self.wanted, self.counters = settings, wanted, counters
        self.events, self.rejected = events, rejected
        self._tokens = [token.encode() for token in tokens]
        self._allowance = Allowance(settings.rate, settings.burst)
        self._unwritten = 0  # bytes of bodies that are being read or written
        self._failed = ""  # the last write's error; empty after one that went well
        self._failed_at = -math.inf

    def app(self) -> Starlette:
        headers = ["Authorization", "Content-Type", "Idempotency-Key"]
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(self.settings.origins),
            allow_methods=["POST"],
            allow_headers=headers,
            expose_headers=["Retry-After"],
        )
        return Starlette(
            routes=[
                Route("/events", _answered(self.collect, self.counters), methods=["POST"]),
                Route("/metrics", self.metrics),
                Route("/health", self.health),
                Route("/snippet.js", snippet),
            ],
            middleware=[cors] if self.settings.origins else [],
            lifespan=self._lifespan,
        )

    async def collect(self, request: Request) -> Response:
        client = request.client.host if request.client else "unknown"
        self._admit(client, 1)
        self._authorise(request.headers.get("authorization", ""))
        if request.headers.get("content-encoding", "identity") != "identity":
            raise EarlyError(415, "send the body as it is, without Content-Encoding")
        size = 0
        try:
            chunks: list[bytes] = []
            async with asyncio.timeout(self.settings.read_seconds):
                async for chunk in request.stream():
                    size += len(chunk)
                    self._unwritten += len(chunk)
                    self._check_size(size, request.headers.get("content-length", "0"))
                    chunks.append(chunk)
            return await self._take(request, b"".join(chunks), client)
        except TimeoutError:
            wanted = f"the body must arrive within {self.settings.read_seconds} seconds"
            raise EarlyError(408, wanted, Connection="close") from None
        finally:
            self._unwritten -= size

    async def _take(self, request: Request, body: bytes, client: str) -> Response:
        self.counters.add("received_bytes_total", len(body))
        raws = split_body(body, request.headers.get("content-type", ""))
        if isinstance(raws, Refused):
            found: list[Event | Refused] = [raws]
        else:
            self._check_batch(len(raws))
            self._admit(client, len(raws) - 1)
            found = self._stamped(raws, request.headers.get("idempotency-key"))
        good = [event for event in found if isinstance(event, Event)]
        bad = {n: event for n, event in enumerate(found) if isinstance(event, Refused)}
        now = _now()
        lines = [refusal(event, now, client) for event in bad.values()]
        await self._keep([event.line for event in good], lines)
        answer = {
            "accepted": len(good),
            "event_ids": [event.id for event in good],
            "rejected": [{"index": n, "reason": event.reason} for n, event in bad.items()],
        }
        status = 202 if not bad else 207 if good else 400
        return _json(status, answer)

    def _stamped(self, raws: list[bytes], given: str | None) -> list[Event | Refused]:
        """The same request sent again gives the same ids, if it brings an Idempotency-Key."""
        if given is not None and not 0 < len(given) <= LONGEST_KEY:
            raise EarlyError(400, f"Idempotency-Key must have 1 to {LONGEST_KEY} characters")
        now, key = _now(), given or uuid.uuid4().hex
        names = [key] if len(raws) == 1 else [f"{key}-{n}" for n in range(len(raws))]
        return [stamp(raw, self.wanted, now, n) for raw, n in zip(raws, names, strict=True)]

    def _check_batch(self, events: int) -> None:
        most = self.settings.max_batch
        if not events:
            raise EarlyError(400, "no event in the body; send an object, an array or JSON lines")
        if events > most:
            raise EarlyError(413, f"at most {most} events at once, got {events}; send several")

    async def _keep(self, good: list[bytes], bad: list[bytes]) -> None:
        pairs = ((self.events, good), (self.rejected, bad))
        writes = [sink.keep(lines) for sink, lines in pairs if lines]
        # Both are waited for: an answer must not overtake a write.
        failed = [e for e in await asyncio.gather(*writes, return_exceptions=True) if e]
        self._failed = str(failed[0]) if failed else ""
        if failed:
            self._failed_at = time.monotonic()
            log.error("events could not be made durable: %s", failed[0])
            raise EarlyError(503, "not durable yet; send the same again", **{"Retry-After": "1"})
        self.counters.add("events_accepted_total", len(good))
        self.counters.add("events_rejected_total", len(bad))

    def _admit(self, client: str, events: int) -> None:
        wait = self._allowance.take(client, events, time.monotonic())
        if wait > 0:
            wanted = f"at most {self.settings.rate:g} events a second; wait and send again"
            raise EarlyError(429, wanted, **{"Retry-After": str(math.ceil(wait))})

    def _authorise(self, header: str) -> None:
        scheme, _, given = header.partition(" ")
        # Every token is compared, in a time that does not tell how much of one was right.
        same = [hmac.compare_digest(given.strip().encode(), token) for token in self._tokens]
        if scheme.lower() != "bearer" or not any(same):
            raise EarlyError(
                401, "send Authorization: Bearer TOKEN", **{"WWW-Authenticate": "Bearer"}
            )

    def _check_size(self, size: int, announced: str) -> None:
        most = self.settings.max_body_bytes
        if size > most or (announced.isdecimal() and int(announced[:20]) > most):
            raise EarlyError(413, f"a body must be at most {most} bytes", Connection="close")
        if self._unwritten > self.settings.max_unwritten_bytes:
            again = {"Retry-After": "1", "Connection": "close"}
            raise EarlyError(503, "too much is being written; send the same again", **again)

    async def metrics(self, _: Request) -> Response:
        return Response(self.counters.text(), media_type="text/plain; version=0.0.4")

    async def health(self, _: Request) -> Response:
        if self._failed and time.monotonic() < self._failed_at + FAILURE_SECONDS:
            return _json(503, {"status": "writes fail", "error": self._failed})
        return _json(200, {"status": "ok"})

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await self.events.open()
        await self.rejected.open()
        try:
            yield
        finally:
            await asyncio.gather(self.events.close(), self.rejected.close())


async def snippet(_: Request) -> Response:
    return Response(
        SNIPPET.read_bytes(),
        media_type="text/javascript",
        headers={"Cache-Control": "public, max-age=3600"},
    )


Handler = Callable[[Request], Awaitable[Response]]


def _answered(handler: Handler, counters: Counters) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            made = await handler(request)
        except EarlyError as early:
            made = _json(early.status, {"error": early.error})
            made.headers.update(early.headers)
        except ClientDisconnect:
            made = _json(400, {"error": "the body was cut off"})  # nobody reads this
        counters.add("requests_total", code=made.status_code)
        return made

    return answer


def _json(status: int, value: object) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
