"""What a room may ask of the lake. Rooms are handed one; only `adapters.lake` knows Delta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pyspark.sql import DataFrame, SparkSession

from recsys_lib.types import Increment


class Lake(Protocol):
    """See `recsys_lib.adapters.lake.Lake` for what each call promises."""

    ledger: Any
    spark: SparkSession

    def exists(self, table: str) -> bool: ...

    def read(self, table: str | Increment, version: int | None = None) -> DataFrame: ...

    def small(self, table: str) -> list[dict[str, Any]]: ...

    def done(self, table: str, app: str, version: int) -> bool: ...

    def append_once(
        self,
        table: str,
        rows: DataFrame,
        *,
        app: str,
        version: int,
        partition_by: Sequence[str] = (),
        merge_schema: bool = False,
    ) -> bool: ...

    def merge_once(
        self,
        table: str,
        rows: DataFrame,
        *,
        on: Sequence[str],
        app: str,
        version: int,
        newer: str | None = None,
        set_: Mapping[str, str] | None = None,
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
