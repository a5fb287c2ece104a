"""What single commits of a Delta table added, read from its log without the JVM."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from recsys_lib.adapters.folders import read_text
from recsys_lib.errors import LakeError
from recsys_lib.types import Increment

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class DataFile:
    """One Parquet file. `path` is relative to the table; `stats` as Delta wrote them, or empty."""

    path: str
    partition: Mapping[str, str | None] = field(default_factory=dict)
    stats: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0


def appended_files(path: str, increment: Increment) -> list[DataFile]:
    """The data files whose rows are exactly those of `increment`.

    From version 0 on that is the table as it was, compacted or not; a later start takes what each
    commit added, and commits that only rearrange rows (compaction) count as nothing. Raises
    LakeError where a version is no longer in the log, or changed rows instead of adding some.
    """
    if increment.from_version == 0:
        return _files_of_version(path, increment)
    files: list[DataFile] = []
    for version in range(increment.from_version, increment.to_version):
        actions = _commit(path, version)
        if actions is None:
            raise _cleaned(increment, version)
        changes = [a for a in actions if _changes_data(a)]
        if any("remove" in action for action in changes):
            raise LakeError(
                f"version {version} of {increment.table} changed rows; an increment needs a "
                "table that is only appended to"
            )
        files = [*files, *(_data_file(action["add"]) for action in changes)]
    return files


def added_since(path: str, version: int) -> set[str]:
    """Paths of all files that commits from `version` on added, as far as the log goes back."""
    commits = (_commit(path, number) or [] for number in range(version, _latest(path) + 1))
    return {_data_file(a["add"]).path for actions in commits for a in actions if "add" in a}


def written_rows(path: str, app: str, version: int) -> int | None:
    """Rows of the commit that holds transaction `version` of `app`; None where there is none."""
    for number in range(_latest(path), -1, -1):
        actions = _commit(path, number)
        if actions is None:
            return None
        marks = [(a["txn"]["appId"], a["txn"]["version"]) for a in actions if "txn" in a]
        if (app, version) in marks:
            return sum(int(_data_file(a["add"]).stats["numRecords"]) for a in actions if "add" in a)
    return None


@dataclass(frozen=True)
class Span:
    """Smallest and largest value of a column; both null where no row has one."""

    low: Any = None
    high: Any = None


def rows_of(files: Iterable[DataFile]) -> int | None:
    """Rows of all files, from their statistics; None where one has none."""
    counts = [file.stats.get("numRecords") for file in files]
    return None if None in counts else sum(int(count) for count in counts if count is not None)


def span_of(files: Iterable[DataFile], column: str, of: Callable[[Any], Any]) -> Span | None:
    """What partitions and statistics say about `column`, by `of`; None where they do not."""
    found: list[tuple[Any, Any]] = []
    for file in files:
        if column in file.partition:
            found = [*found, (file.partition[column], file.partition[column])]
        elif column not in file.stats.get("nullCount", {}):
            return None
        else:
            ends = (file.stats.get(side, {}).get(column) for side in ("minValues", "maxValues"))
            found = [*found, tuple(ends)]
    known = [(of(low), of(high)) for low, high in found if low is not None and high is not None]
    if not known:
        return Span()
    return Span(min(low for low, _ in known), max(high for _, high in known))


def moment(value: str | int) -> datetime:
    """A time of the statistics: text (cut to the millisecond) or microseconds since 1970.

    Years that Python cannot write become the first or the last that it can.
    """
    if isinstance(value, str) and value.startswith("+"):
        return LAST
    if isinstance(value, str) and value.startswith(("-", "0000")):
        return FIRST
    if isinstance(value, str):
        found = datetime.fromisoformat(value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
    except OverflowError:
        return LAST if value > 0 else FIRST


def _files_of_version(path: str, increment: Increment) -> list[DataFile]:
    version = increment.to_version - 1
    try:
        table = DeltaTable(path, version=version)
    except DeltaError as error:
        if _text(path, version) is not None:
            raise  # it is there: something else is wrong
        raise _cleaned(increment, version) from error
    listed = pa.table(table.get_add_actions(flatten=True))
    for place, field_ in enumerate(listed.schema):
        if pa.types.is_timestamp(field_.type):  # as numbers: Python knows no year 10000
            micros = listed.column(place).cast(pa.timestamp("us", field_.type.tz))
            listed = listed.set_column(place, field_.name, micros.cast(pa.int64()))
    return [_listed_file(row) for row in listed.to_pylist()]


def _listed_file(row: dict[str, Any]) -> DataFile:
    parts: dict[str, dict[str, Any]] = {}
    for name, value in row.items():
        kind, _, column = name.partition(".")
        parts.setdefault(kind, {})[column] = value
    counts = {column: n for column, n in parts.get("null_count", {}).items() if n is not None}
    stats = {
        "numRecords": row["num_records"],
        "nullCount": counts,
        "minValues": parts.get("min", {}),
        "maxValues": parts.get("max", {}),
    }
    return DataFile(unquote(row["path"]), parts.get("partition", {}), stats, row["size_bytes"])


def _latest(path: str) -> int:
    return int(DeltaTable(path).version())


def _commit(path: str, version: int) -> list[dict[str, Any]] | None:
    text = _text(path, version)
    return None if text is None else [json.loads(line) for line in text.splitlines()]


def _text(path: str, version: int) -> str | None:
    return read_text(f"{path}/_delta_log/{version:020d}.json")


def _changes_data(action: dict[str, Any]) -> bool:
    return bool((action.get("add") or action.get("remove") or {}).get("dataChange"))


def _data_file(add: dict[str, Any]) -> DataFile:
    stats = json.loads(add.get("stats") or "{}")
    return DataFile(unquote(add["path"]), add.get("partitionValues") or {}, stats, add["size"])


def _cleaned(increment: Increment, version: int) -> LakeError:
    return LakeError(
        f"version {version} of {increment.table} is no longer in its log: a vacuum "
        "took it; raise lake.keep_hours, or pin increments for as long as they are needed"
    )
