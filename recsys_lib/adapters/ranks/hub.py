"""The driver's end of the line to every rank: JSON lines over TCP, one connection a rank."""

from __future__ import annotations

import hmac
import json
import queue
import secrets
import socket
import threading
from contextlib import suppress
from typing import Any

Said = tuple[int, dict[str, Any]]


class Hub:
    """Whoever knows the secret may speak; closing the hub tells all ranks to end.

    said  (rank, message); a message {"gone": …} where a connection broke off
    """

    def __init__(self) -> None:
        self.said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self.secret = secrets.token_hex(16)
        self._server = socket.create_server(("", 0), backlog=1024)
        self._open: list[socket.socket] = []
        self._closed = False
        threading.Thread(target=self._accept, daemon=True, name="ranks-hub").start()

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def close(self) -> None:
        self._closed = True
        for line in [self._server, *self._open]:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            self._open.append(line)
            threading.Thread(target=self._listen, args=(line,), daemon=True).start()

    def _listen(self, line: socket.socket) -> None:
        rank = None
        try:
            with line, line.makefile("r", encoding="utf-8", errors="replace") as lines:
                hello = json.loads(lines.readline() or "{}")
                if not hmac.compare_digest(str(hello.get("secret")), self.secret):
                    return
                rank = int(hello["rank"])
                self.said.put((rank, {"here": hello["host"]}))
                for text in lines:
                    self.said.put((rank, json.loads(text)))
        except (OSError, ValueError, KeyError):
            pass
        if rank is not None and not self._closed:
            self.said.put((rank, {"gone": "its connection broke off"}))


class Line:
    """A rank's end. Sending never raises: without the driver the rank is ended anyway."""

    def __init__(self, host: str, port: int, secret: str, rank: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=60)
        self._socket.settimeout(None)
        self._lock = threading.Lock()
        self.send({"secret": secret, "rank": rank, "host": socket.gethostname()})

    def send(self, message: dict[str, Any]) -> None:
        with self._lock, suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def wait_closed(self) -> None:
        """Returns when the driver has ended the conversation, or is gone."""
        with suppress(OSError):
            while self._socket.recv(1024):
                pass

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
