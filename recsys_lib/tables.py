"""What a room may ask of the lake. Rooms are handed one; only `adapters.lake` knows Delta."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from pyspark.sql import DataFrame, SparkSession

from recsys_lib.types import Increment

FEATURES = "features"  # the reader of silver whose windows are closed once they are prepared


class Lake(Protocol):
    """See `recsys_lib.adapters.lake.Lake` for what each call promises."""

    ledger: Any
    spark: SparkSession

    def exists(self, table: str) -> bool: ...

    def version(self, table: str) -> int: ...

    def read(self, table: str | Increment, version: int | None = None) -> DataFrame: ...

    def partitions(self, table: str) -> list[dict[str, str]]: ...

    def small(self, table: str) -> list[dict[str, Any]]: ...

    def last(self, table: str, app: str) -> int | None: ...

    def done(self, table: str, app: str, version: int) -> bool: ...

    def written(self, table: str, *, app: str, version: int) -> int: ...

    def append_once(
        self,
        table: str,
        rows: DataFrame,
        *,
        app: str,
        version: int,
        partition_by: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
    ) -> bool: ...

    def merge_once(
        self,
        table: str,
        rows: DataFrame,
        *,
        on: Sequence[str],
        app: str,
        version: int,
        set_: Mapping[str, str] | None = None,
        gone: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> bool: ...

    def next_increment(self, table: str, reader: str) -> Increment | None: ...

    def mark_read(
        self,
        increment: Increment,
        reader: str,
        *,
        window: int | None = None,
        counts: Mapping[str, Any] | None = None,
    ) -> None: ...


def side_by_side(*steps: Callable[[], object]) -> None:
    """Runs steps that need nothing of each other at the same time: while Spark plans and commits
    one small write, another one has the cores. Returns when all have ended, and raises what one of
    them raised."""
    with ThreadPoolExecutor(len(steps), thread_name_prefix="step") as threads:
        begun = [threads.submit(step) for step in steps]
    for step in begun:
        step.result()


def closed_window(lake: Lake) -> int | None:
    """The last window that was prepared; it and those before it are judged and never change."""
    read = (row for row in lake.ledger.rows("silver", FEATURES) if row["state"] == "read")
    return max((row["window"] for row in read if row["window"] is not None), default=None)
