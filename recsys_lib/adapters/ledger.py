"""Who has read which versions of which table: a tiny append-only Delta table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from recsys_lib.errors import LakeError
from recsys_lib.types import Increment

SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("reader", pa.string()),
        ("state", pa.string()),
        ("window", pa.int32()),
        ("from_version", pa.int64()),
        ("to_version", pa.int64()),
        ("rows", pa.int64()),
        ("first_event", pa.timestamp("us", "UTC")),
        ("last_event", pa.timestamp("us", "UTC")),
        ("first_window", pa.int32()),
        ("last_window", pa.int32()),
        ("counts", pa.string()),
        ("written", pa.timestamp("us", "UTC")),
    ]
)


class Ledger:
    """One row when an increment is opened, one when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def rows(self, table: str | None = None, reader: str | None = None) -> list[dict[str, Any]]:
        """All rows, oldest first; `counts` as a dict. Grows by a few rows a window."""
        return _rows(self._log(), table, reader)

    def open(self, increment: Increment, reader: str) -> Increment:
        """Note that `reader` begins with `increment`; the one that comes back is to be read.

        It is another one where another process was faster. Raises LakeError where both are at it
        in this moment.
        """
        log = self._log()
        theirs, read = _position(_rows(log, increment.table, reader))
        if theirs is not None:
            return theirs
        if read > increment.from_version:
            raise _overtaken(increment, reader)
        mark = Transaction(f"open:{increment.table}:{reader}", increment.to_version)
        rows = _one(_row(increment, reader, "open"))
        said = CommitProperties(app_transactions=[mark])
        try:
            # Of what was seen: Delta refuses both to make a table and to repeat a transaction that
            # came after it.
            mode: Literal["append", "error"] = "append" if log else "error"
            write_deltalake(log or self.path, rows, mode=mode, commit_properties=said)
        except DeltaError as error:
            if self.position(increment.table, reader) == (None, read):
                raise  # nobody was faster: something else is wrong
            raise _overtaken(increment, reader) from error
        return increment

    def position(self, table: str, reader: str) -> tuple[Increment | None, int]:
        """The increment that is open, if any, and the first version that is not read."""
        return _position(self.rows(table, reader))

    def behind(self, table: str) -> int | None:
        """The first version that some reader of `table` has not read; None without a reader.

        One that has read nothing yet does not count: it will start with the table as it is then.
        """
        read: dict[str, int] = {}
        for row in self.rows(table):
            if row["state"] == "read":
                read[row["reader"]] = max(row["to_version"], read.get(row["reader"], 0))
        return min(read.values(), default=None)

    def recorded(self, table: str, reader: str, window: int) -> dict[str, Any] | None:
        """The row with which `reader` closed `window`, or None: not closed yet."""
        for row in self.rows(table, reader):
            if row["state"] == "read" and row["window"] == window:
                return row
        return None

    def write(
        self,
        increment: Increment,
        reader: str,
        state: Literal["open", "read"],
        *,
        window: int | None = None,
        counts: Mapping[str, Any] | None = None,
    ) -> None:
        row = _row(increment, reader, state, window, counts)
        write_deltalake(self.path, _one(row), mode="append")

    def _log(self) -> DeltaTable | None:
        try:
            return DeltaTable(self.path)
        except TableNotFoundError:
            return None


def _rows(log: DeltaTable | None, table: str | None, reader: str | None) -> list[dict[str, Any]]:
    if log is None:
        return []
    found = log.to_pyarrow_table()
    for column, value in (("table", table), ("reader", reader)):
        if value is not None:
            found = found.filter(pc.equal(found[column], value))
    listed = found.sort_by([("written", "ascending")]).to_pylist()
    return [{**row, "counts": json.loads(row["counts"] or "{}")} for row in listed]


def _position(rows: Sequence[dict[str, Any]]) -> tuple[Increment | None, int]:
    read = max((row["to_version"] for row in rows if row["state"] == "read"), default=0)
    waiting = [r for r in rows if r["state"] == "open" and r["from_version"] >= read]
    return (_increment(waiting[0]) if waiting else None), read


def _row(
    increment: Increment,
    reader: str,
    state: str,
    window: int | None = None,
    counts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        **asdict(increment),
        "reader": reader,
        "state": state,
        "window": increment.last_window if window is None else window,
        "counts": json.dumps(dict(counts or {}), sort_keys=True),
        "written": datetime.now(UTC),
    }


def _one(row: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([row], schema=SCHEMA)


def _overtaken(increment: Increment, reader: str) -> LakeError:
    return LakeError(
        f"{reader} was about to begin with versions [{increment.from_version}, "
        f"{increment.to_version}) of {increment.table}, but another process has just done so; "
        "nothing is lost or double: let one of them work, then start this again"
    )


def _increment(row: dict[str, Any]) -> Increment:
    names = Increment.__dataclass_fields__
    return Increment(**{name: row[name] for name in names})
