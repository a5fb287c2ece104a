"""Cut a user's log, once, into landing files by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from pyspark.sql import DataFrame

from recsys_lib.errors import SourceError
from recsys_lib.ingest.axis import Axis, find_axis
from recsys_lib.ingest.bronze import check_mapping, parse
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings
from recsys_lib.types import Manifest


class Replay(Protocol):
    """The staging folder: see `recsys_lib.adapters.sources.replay`."""

    def manifest(self) -> Manifest | None: ...

    def cut(self, parsed: DataFrame, source: str, axis: str) -> Manifest: ...

    def commit(self, manifest: Manifest) -> None: ...


def stage(
    replay: Replay,
    read: Callable[[str], DataFrame],
    events: str,
    mapping: Mapping,
    clean: CleanSettings,
    identity: Callable[[str], str | None],
    faults: Sequence[str] = (),
) -> Manifest:
    """Cut the log `events` into landing files by window, once; later calls only report.

    `identity` tells a log from another one; null where there is no log any more, which later calls
    can do without. Raises SettingsError with all faults of the mapping (`faults`: those of what it
    says of other tables), SourceError for an unreadable file, a log without a single usable time,
    or another one than was cut, before anything is landed.
    """
    done = replay.manifest()
    found = identity(events)
    if done is not None:
        _same(done, mapping)
        _same_log(done, found, events)
        return done
    rows = read(events)
    check_mapping(rows, mapping, faults)
    axis = find_axis(rows, mapping, clean.earliest)
    parsed = parse(rows, mapping, axis, clean.earliest)
    manifest = replay.cut(parsed, mapping.name, axis.to_json())
    if not manifest.windows:
        raise SourceError(no_time(rows, mapping, manifest.rows))
    manifest = replace(manifest, log=found)
    replay.commit(manifest)
    return manifest


def axis_of(manifest: Manifest) -> Axis:
    return Axis.from_json(manifest.axis)


def no_time(rows: DataFrame, mapping: Mapping, count: int) -> str:
    """Why nothing can be placed in time, with one value as it came."""
    if not count:
        return f"{mapping.name}: the log has no rows; give one that has"
    times = mapping.time
    text = times.timestamp or times.epoch or times.period or ""
    sample = rows.selectExpr(f"CAST({_quoted(text, rows)} AS STRING) AS it")
    first = sample.where("it IS NOT NULL").head()
    got = repr(first["it"]) if first else "nothing"
    return (
        f"{mapping.name}: none of {count} rows has a usable time; {text!r} gives {got}; "
        "write time.timestamp as SQL such as to_timestamp(col, 'M/d/yyyy H:mm'), "
        "or time.epoch with its unit"
    )


def _quoted(text: str, rows: DataFrame) -> str:
    return f"`{text}`" if text in rows.columns else text


def _same(done: Manifest, mapping: Mapping) -> None:
    if done.source != mapping.name:
        raise SourceError(
            f"this run was staged from {done.source!r}, but the mapping is {mapping.name!r}; "
            "give the run another run.out"
        )


def _same_log(done: Manifest, found: str | None, events: str) -> None:
    if None not in (done.log, found) and done.log != found:
        raise SourceError(
            f"{events} is another log than this run was staged from, or has changed since; its "
            "rows would be left out: give it another --out (run.out), or name the log as it was"
        )
