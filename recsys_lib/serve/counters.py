"""Counters in the text format of Prometheus."""

from __future__ import annotations

PREFIX = "alluvium_collector"
HELP = {
    "requests_total": "requests to /events by status code",
    "events_accepted_total": "events that are durable",
    "events_rejected_total": "events kept among the rejected ones",
    "received_bytes_total": "bytes of bodies read",
    "commits_total": "writes that were made durable, by stream",
    "commit_failures_total": "writes that failed, by stream",
    "commit_seconds_total": "seconds spent in writes, by stream",
    "files_finished_total": "files given to the stream that watches, by stream",
}


class Counters:
    """Each stream and status has few writers: a lost race would only miscount by one."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], float] = {}

    def add(self, name: str, by: float = 1, **labels: object) -> None:
        inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
        key = (name, f"{{{inner}}}" if inner else "")
        self._values[key] = self._values.get(key, 0) + by

    def text(self) -> str:
        lines: list[str] = []
        for name, words in HELP.items():
            found = {labels: v for (n, labels), v in self._values.items() if n == name}
            lines += [f"# HELP {PREFIX}_{name} {words}", f"# TYPE {PREFIX}_{name} counter"]
            lines += [f"{PREFIX}_{name}{labels} {value:.10g}" for labels, value in found.items()]
        return "\n".join(lines) + "\n"
