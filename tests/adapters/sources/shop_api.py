"""A shop's API on a free port: pages of events between two dates, with moods."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "secret"
PAGE = 2


class ShopApi:
    """`events` are answered by their `at`; `moods` are answers given first, one a request."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events
        self.moods: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[dict[str, str]] = []
        self.url = ""

    def answer(self, query: dict[str, str], token: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(query)
        if token != f"Bearer {TOKEN}":
            return 401, {}, b"no"
        if self.moods:
            return self.moods.pop(0)
        start, end = query["start_date"], query["end_date"]
        found = [event for event in self.events if start <= event["at"] < end]
        first = (int(query["page"]) - 1) * PAGE
        return 200, {}, json.dumps({"data": found[first : first + PAGE]}).encode()

    def windows(self) -> list[str]:
        return sorted({query["start_date"][:10] for query in self.asked})


@contextmanager
def serving(events: list[dict[str, Any]]) -> Iterator[ShopApi]:
    api = ShopApi(events)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
            code, headers, body = api.answer(query, self.headers.get("Authorization", ""))
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_port}/events"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
