"""The collector over real sockets: who may send what, and what becomes of it."""

from __future__ import annotations

import asyncio
import base64
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from recsys_lib.serve import collector
from recsys_lib.serve.counters import Counters
from recsys_lib.settings import CollectorSettings
from tests.serve.service import NEXT_TOKEN, ROOT, Answered, Connection, Service, ask, service

MAPPING = """
name: shop
user: visitor
item: upper(product)
time: {timestamp: at}
windows: {history: 1}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests that do not stop it; each sends ids of its own."""
    out = tmp_path_factory.mktemp("collector")
    sets = {
        "required": "{user: id, time: time}",
        "max_body_bytes": 100_000,
        "max_batch": 50,
        "burst": 100_000,
        "rotate_seconds": 0.05,
        "read_seconds": 0.5,
        "origins": "['https://shop.example']",
    }
    arguments = [f"--set=collector.{name}={value}" for name, value in sets.items()]
    with service(out, *arguments) as started:
        yield started


def event(number: object, **more: object) -> dict[str, object]:
    return {"event_id": f"e{number}", "user": "u1", "time": "2026-01-05T10:00:00Z", **more}


def landed(running: Service, name: str, kind: str = "events") -> list[dict[str, object]]:
    """Lines that contain `name`; a file is handed over 50 ms after its first line."""
    return asyncio.run(_landed(running, name, kind))


async def _landed(running: Service, name: str, kind: str) -> list[dict[str, object]]:
    for _ in range(200):
        found = [e for e in running.events(kind) if name in json.dumps(e, ensure_ascii=False)]
        if found:
            return found
        await asyncio.sleep(0.02)
    return []


def test_an_event_lands_as_it_came_with_the_time_of_its_arrival(running: Service) -> None:
    body = (
        '{"event_id": "one",\n "user": 7, "time": "2026-01-05", '
        '"price": 12345678901234567890.10, "é": []}'
    )
    answer = ask(running, body)
    assert (answer.status, answer.json["accepted"]) == (202, 1)
    (found,) = landed(running, '"one"')
    assert found.pop("received_at") > "2026"
    assert found == json.loads(body)
    text = "".join(f.read_text() for f in (running.out / "collector/events").glob("*.jsonl"))
    assert "12345678901234567890.10" in text


@pytest.mark.parametrize(
    ("name", "join", "kind"),
    [
        ("array", lambda texts: f"[{','.join(texts)}]", "application/json"),
        ("lines", "\n".join, "text/plain"),
        ("crlf", "\r\n\r\n".join, "application/x-ndjson; charset=utf-8"),
        ("bom", lambda texts: "\ufeff" + "\n".join(texts), ""),
    ],
)
def test_batches_come_as_an_array_or_as_lines(
    running: Service, name: str, join: object, kind: str
) -> None:
    assert callable(join)
    texts = [json.dumps(event(f"{name}-{n}")) for n in range(3)]
    answer = ask(running, join(texts), Content_Type=kind)
    assert (answer.status, answer.json["accepted"]) == (202, 3), answer
    assert [e["event_id"] for e in landed(running, f"e{name}-")] == [
        f"e{name}-0",
        f"e{name}-1",
        f"e{name}-2",
    ]


def test_of_a_batch_the_good_events_are_taken_and_the_bad_ones_kept_aside(
    running: Service,
) -> None:
    bad = [{"event_id": "emix-bad", "time": "yesterday"}, "emix", {**event("mix"), "user": True}]
    answer = ask(running, json.dumps([event("mix-0"), *bad, event("mix-1")]))
    assert (answer.status, answer.json["accepted"]) == (207, 2)
    assert [fault["index"] for fault in answer.json["rejected"]] == [1, 2, 3]
    assert "'user' must be text or a whole number" in answer.json["rejected"][0]["reason"]
    assert "'time' must be an ISO 8601 time" in answer.json["rejected"][0]["reason"]
    assert [e["event_id"] for e in landed(running, "emix-")] == ["emix-0", "emix-1"]
    kept = landed(running, "emix", "rejected")
    assert [json.loads(str(row["raw"])) for row in kept] == bad
    assert all(row["reason"] and row["client"] == "127.0.0.1" for row in kept)


def test_a_body_that_is_not_json_is_kept_byte_for_byte(running: Service) -> None:
    answer = ask(running, b'{"odd-bytes": "\xff\xfe"')
    assert answer.status == 400
    assert answer.json["accepted"] == 0
    rows = [r for r in landed(running, "raw_base64", "rejected") if "raw_base64" in r]
    assert b'{"odd-bytes": "\xff\xfe"' in [base64.b64decode(str(r["raw_base64"])) for r in rows]


def test_the_same_idempotency_key_gives_the_same_ids(running: Service) -> None:
    body = json.dumps([{"user": 1, "time": "2026-01-05"}, {"user": 2, "time": "2026-01-06"}])
    first, again = (ask(running, body, Idempotency_Key="visit-7") for _ in range(2))
    assert first.json["event_ids"] == again.json["event_ids"] == ["visit-7-0", "visit-7-1"]
    assert ask(running, body).json["event_ids"] != ask(running, body).json["event_ids"]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic a-token-of-the-tests"])
def test_without_a_token_nothing_is_taken(running: Service, header: str) -> None:
    answer = ask(running, json.dumps(event("stranger")), Authorization=header)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_two_tokens_are_valid_while_one_follows_the_other(running: Service) -> None:
    answer = ask(running, json.dumps(event("next")), Authorization=f"Bearer {NEXT_TOKEN}")
    assert answer.status == 202


def test_what_is_too_large_is_refused_before_it_is_read(running: Service) -> None:
    assert ask(running, json.dumps([event(n) for n in range(51)])).status == 413
    assert ask(running, b"x" * 100_001).status == 413
    chunked = b"".join(b"4000\r\n" + b"x" * 0x4000 + b"\r\n" for _ in range(7)) + b"0\r\n\r\n"
    assert ask(running, chunked, Transfer_Encoding="chunked").status == 413


def test_a_body_that_does_not_end_is_not_waited_for(running: Service) -> None:
    async def slow() -> Answered:
        async with asyncio.timeout(10), Connection(running.port) as connection:
            return await connection.post(b"{", Content_Length="100")

    assert asyncio.run(slow()).status == 408


def test_what_cannot_be_an_event_is_told(running: Service) -> None:
    assert ask(running, "").status == 400
    assert ask(running, "[]").status == 400
    assert ask(running, "{}", Content_Encoding="gzip").status == 415
    for other in ({"received_at": 1, "Received_At": 2}, {"Item": 1, "item": 2}):
        assert ask(running, json.dumps(event("case", **other))).status == 400
    assert ask(running, json.dumps({**event(1), "event_id": "x" * 257})).status == 400


def test_pages_of_the_named_origins_may_send(running: Service) -> None:
    async def preflight(origin: str) -> Answered:
        async with Connection(running.port) as connection:
            more = {"Origin": origin, "Access_Control_Request_Method": "POST"}
            wanted = {"Access_Control_Request_Headers": "authorization,content-type"}
            return await connection.request("OPTIONS", "/events", **more, **wanted)

    allowed = asyncio.run(preflight("https://shop.example"))
    assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
    assert asyncio.run(preflight("https://other.example")).status == 400
    refused = ask(running, "{}", Authorization="", Origin="https://shop.example")
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == "https://shop.example"


def test_counters_health_and_snippet_can_be_fetched(running: Service) -> None:
    async def get(path: str) -> Answered:
        async with Connection(running.port) as connection:
            return await connection.request("GET", path)

    ask(running, json.dumps(event("counted")))
    text = asyncio.run(get("/metrics")).body.decode()
    assert 'alluvium_collector_requests_total{code="202"}' in text
    assert "# TYPE alluvium_collector_events_accepted_total counter" in text
    assert asyncio.run(get("/health")).json == {"status": "ok"}
    assert b"function Alluvium" in asyncio.run(get("/snippet.js")).body
    assert asyncio.run(get("/events")).status == 405


def test_a_client_that_sends_too_much_is_told_when_to_come_back(tmp_path: Path) -> None:
    sets = ("rate=2", "burst=10", "max_batch=10")
    with service(tmp_path, *(f"--set=collector.{s}" for s in sets)) as running:
        batch = json.dumps([event(n) for n in range(8)])
        assert ask(running, batch).status == 202
        refused = ask(running, batch)
        assert refused.status == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 4


def test_a_mapping_says_which_fields_an_event_must_have(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(MAPPING)
    with service(tmp_path, "--mapping", tmp_path / "m.yaml") as running:
        assert ask(running, '{"visitor": 7, "at": "2026-01-05 10:00:00"}').status == 202
        reason = ask(running, '{"user": 7}').json["rejected"][0]["reason"]
        assert "'visitor'" in reason
        assert "'at'" in reason
        assert "product" not in reason  # SQL may make an item from anything


def test_asked_to_stop_it_answers_what_is_open_and_hands_over_its_files(tmp_path: Path) -> None:
    with service(tmp_path, "--set=collector.rotate_seconds=3600") as running:
        assert ask(running, json.dumps([event(1), 2])).status == 207
        assert running.events() == []
        assert running.parts() != []
        said = running.end(signal.SIGTERM)
        assert (running.process.returncode, said) == (0, "")
        assert (len(running.events()), len(running.events("rejected"))) == (1, 1)
        assert running.parts() == running.parts("rejected") == []


def test_writes_that_fail_are_not_acknowledged(tmp_path: Path) -> None:
    """The disk is full: no file may become longer than what it is."""
    with service(tmp_path) as running:
        process, unlimited = running.process.pid, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        assert ask(running, json.dumps(event(1))).status == 202
        resource.prlimit(process, resource.RLIMIT_FSIZE, (50, resource.RLIM_INFINITY))
        for _ in range(3):
            refused = ask(running, json.dumps(event(2)))
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert asyncio.run(health(running)).status == 503
        resource.prlimit(process, resource.RLIMIT_FSIZE, unlimited)
        # The spare file was made in the meantime, or failed to be: one more may be refused.
        assert 202 in [ask(running, json.dumps(event(2))).status for _ in range(2)]
        assert asyncio.run(health(running)).status == 200
        running.end(signal.SIGTERM)
        names = [e["event_id"] for e in running.events()]
        assert names.count("e1") == 1
        assert 1 <= names.count("e2") <= 2


def test_a_failed_write_is_told_for_a_while_only_so_that_a_balancer_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full:
        async def open(self) -> None: ...

        async def keep(self, lines: Sequence[bytes]) -> None:
            raise OSError("no space left on device")

        async def close(self) -> None: ...

    now = 1000.0
    monkeypatch.setattr(collector, "time", SimpleNamespace(monotonic=lambda: now))
    full = collector.Collector(CollectorSettings(), {}, [], Full(), Full(), Counters())

    def well() -> int:
        return asyncio.run(full.health(Request({"type": "http"}))).status_code

    assert well() == 200
    with pytest.raises(collector.EarlyError):
        asyncio.run(full._keep([b"{}"], []))
    assert well() == 503
    now += collector.FAILURE_SECONDS / 2
    assert well() == 503
    now += collector.FAILURE_SECONDS / 2
    assert well() == 200


async def health(running: Service) -> Answered:
    async with Connection(running.port) as connection:
        return await connection.request("GET", "/health")


@pytest.mark.parametrize(
    ("tokens", "arguments", "says"),
    [
        ("", [], "ALLUVIUM_COLLECTOR_TOKENS must hold a token"),
        ("short", [], "16 characters or more"),
        ("0123456789abcdef", ["--set=collector.burst=5"], "burst must be at least max_batch"),
        ("0123456789abcdef", ["--set=collector.folder=hdfs://x/y"], "folder must be a local one"),
        ("0123456789abcdef", ["--out=hdfs://x/y"], "collector.folder must be a local folder where"),
        ("0123456789abcdef", ["--set=collector.folder=/proc/x"], "must be a folder we may write"),
        ("0123456789abcdef", ["--set=collector.host=192.0.2.1"], "192.0.2.1:8081 must be free"),
    ],
)
def test_a_collector_that_cannot_work_does_not_start(
    tmp_path: Path, tokens: str, arguments: list[str], says: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "jobs.collect", "--out", tmp_path, *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "ALLUVIUM_COLLECTOR_TOKENS": tokens},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2, ended.stderr
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
