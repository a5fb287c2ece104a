"""Run a feed to its end and keep what it brings, without bronze."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from recsys_lib.adapters.sources.feed import Feed, run_feed


class Landed:
    """Where a feed lands. `fail_next`: as if killed before the next micro-batch is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.fail_next = False
        self._done: set[tuple[str, int]] = set()

    def run(self, feed: Feed) -> int:
        return run_feed(feed, str(self.folder / "checkpoints"), self._land)

    def column(self, name: str) -> list[Any]:
        return sorted((row[name] for row in self.rows), key=str)

    def _land(self, raw: DataFrame, app: str, number: int) -> int:
        if self.fail_next:
            self.fail_next = False
            raise KilledError
        if (app, number) in self._done:
            return 0
        found = [row.asDict() for row in raw.collect()]
        self._done.add((app, number))
        self.rows = [*self.rows, *found]
        return len(found)


class KilledError(RuntimeError):
    """Stands for a kill."""
