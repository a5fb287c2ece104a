"""Who has read which versions of which table: a tiny append-only Delta table."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
        return _listed(_found(self._log(), table, reader))

    def open(self, increment: Increment, reader: str) -> Increment:
        """Note that `reader` begins with `increment`; the one that comes back is to be read.

        It is another one where another process was faster. Raises LakeError where both are at it
        in this moment.
        """
        log = self._log()
        theirs, read = _position(_found(log, increment.table, reader))
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
        return _position(_found(self._log(), table, reader))

    def behind(self, table: str) -> int | None:
        """The first version that some reader of `table` has not read; None without a reader.

        One that has read nothing yet does not count: it will start with the table as it is then.
        """
        found = _found(self._log(), table, None)
        read = found.filter(pc.equal(found["state"], "read")).group_by("reader")
        end: int | None = pc.min(read.aggregate([("to_version", "max")])["to_version_max"]).as_py()
        return end

    def opened(self, table: str) -> set[int]:
        """Versions of `table` that a reader may ask for again: the last ones of what was opened and
        not read to its end. `NAME:window` is opened for what NAME reads as that window."""
        rows = self.rows(table)
        read = [row for row in rows if row["state"] == "read"]
        windows = {f"{row['reader']}:{row['window']}" for row in read}
        ends: dict[str, int] = {}
        for row in read:
            ends[row["reader"]] = max(row["to_version"], ends.get(row["reader"], 0))
        return {
            row["to_version"] - 1
            for row in rows
            if row["state"] == "open"
            and row["reader"] not in windows
            and ends.get(row["reader"], 0) < row["to_version"]
        }

    def recorded(self, table: str, reader: str, window: int) -> dict[str, Any] | None:
        """The row with which `reader` closed `window`, or None: not closed yet."""
        found = _found(self._log(), table, reader)
        mine = pc.and_(pc.equal(found["state"], "read"), pc.equal(found["window"], window))
        return next(iter(_listed(found.filter(mine))), None)

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


def _found(log: DeltaTable | None, table: str | None, reader: str | None) -> pa.Table:
    """Asked several times a pass, of ten thousands of rows in the end: they stay in Arrow."""
    if log is None:
        return SCHEMA.empty_table()
    found = log.to_pyarrow_table()
    for column, value in (("table", table), ("reader", reader)):
        if value is not None:
            found = found.filter(pc.equal(found[column], value))
    return found.sort_by([("written", "ascending")])


def _listed(found: pa.Table) -> list[dict[str, Any]]:
    return [{**row, "counts": json.loads(row["counts"] or "{}")} for row in found.to_pylist()]


def _position(found: pa.Table) -> tuple[Increment | None, int]:
    state = found["state"]
    read: int = pc.max(found.filter(pc.equal(state, "read"))["to_version"]).as_py() or 0
    waits = pc.and_(pc.equal(state, "open"), pc.greater_equal(found["from_version"], read))
    waiting = found.filter(waits).slice(0, 1).to_pylist()
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
