"""Histories that a caller brings -> what a scorer reads, and its answers back to item ids."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys_lib.errors import SourceError
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Floats, Histories, Ints
from recsys_lib.model.ragged import offsets_of
from recsys_lib.types import LAST_FRACTION

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
DAY = 86_400.0
WORD = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,]+""")
Words = dict[str, int]
ANSWERS = pa.schema(
    [
        ("request_id", pa.string()),
        ("items", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class Clock:
    """How a caller's times map onto the window axis.

    Timestamps (or ISO text) are placed by `start` (seconds since 1970) and `days`; plain numbers
    are taken as the mapping's own: epochs in `unit`, or periods, which already count windows.
    """

    start: float | None
    days: float
    unit: str
    periods: bool

    @classmethod
    def of(cls, lineage: dict[str, Any]) -> Clock:
        """From a bundle's lineage."""
        axis, time = json.loads(lineage.get("axis") or "{}"), lineage.get("time") or {}
        start = axis.get("start")
        seconds = None
        if start:
            moment = datetime.fromisoformat(start)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        return cls(
            seconds, axis.get("days", 1.0), time.get("unit", "s"), time.get("period") is not None
        )

    def at(self, times: pa.Array) -> Floats:
        """Window-axis position float32 of each time; NaN where it is unknown or has no end."""
        found = self._placed(times)
        return np.where(np.isfinite(found), found, np.float32(np.nan))

    def _placed(self, times: pa.Array) -> Floats:
        if _is_text(times.type):
            times = _moments(times)
        if pa.types.is_timestamp(times.type) or pa.types.is_date(times.type):
            micros = pc.cast(pc.cast(times, pa.timestamp("us"), safe=False), pa.int64())
            values = np.asarray(micros.cast(pa.float64()).fill_null(np.nan)) * 1e-6
        else:
            values = np.asarray(times.cast(pa.float64()).fill_null(np.nan))
            if self.periods:
                return values.astype(np.float32)
            values = values * SECONDS[self.unit]
        if self.start is None:
            return np.full(len(values), np.nan, np.float32)
        exact = np.where(np.isfinite(values), values - self.start, np.nan) / (self.days * DAY)
        window = np.floor(exact)
        # As landing places events: else some would round up into the next window.
        return (window + np.minimum(exact - window, LAST_FRACTION)).astype(np.float32)


@dataclass(frozen=True)
class Asking:
    """Reads request batches for one model: ids to indices, times to the window axis."""

    catalog: Catalog
    clock: Clock
    task: str
    learned: int
    targets: tuple[str, ...]

    def histories(self, batch: pa.Table) -> tuple[pa.Array, Histories]:
        """(request_id, histories) of a table with request_id, items, and optional types, times,
        values, now. Raises SourceError for a missing column or lists of unequal lengths."""
        check_columns(batch.column_names)
        items = _lists(batch, "items")
        lengths = np.asarray(items.value_lengths().fill_null(0)).astype(np.int64)
        size = int(lengths.sum())
        at = np.full(size, np.nan, np.float32)
        if "times" in batch.column_names:
            at = self.clock.at(_values(batch, "times", lengths))
        types = np.full(size, self._default_type(), np.int32)
        if "types" in batch.column_names:
            types = _indices(_values(batch, "types", lengths), self._words[1])
        values = np.zeros(size, np.float32)
        if "values" in batch.column_names:
            try:
                told = pc.cast(_values(batch, "values", lengths), pa.float32())
            except pa.ArrowException as error:
                step = "correct them or leave the column out"
                raise SourceError(f"values must be numbers, {error}; {step}") from None
            values = np.nan_to_num(np.asarray(told.fill_null(0)), posinf=0.0)
        ids = pc.cast(batch.column("request_id"), pa.string()).combine_chunks()
        return ids, Histories(
            offsets=offsets_of(lengths),
            items=_indices(items.flatten(), self._words[0]),
            types=types,
            at=at,
            now=self._now(batch, at, lengths),
            profile=np.zeros((len(batch), len(self.catalog.profile)), np.int32),
            values=values,
        )

    def answers(self, ids: pa.Array, items: Ints, scores: Floats) -> pa.RecordBatch:
        """request_id, items, scores; items that could not be ranked are left out."""
        real = items > 0
        offsets = pa.array(offsets_of(real.sum(1).astype(np.int64)).astype(np.int32))
        names = pa.array(self.catalog.ids[items[real]].tolist(), pa.string())
        columns = [
            ids,
            pa.ListArray.from_arrays(offsets, names),
            pa.ListArray.from_arrays(offsets, pa.array(scores[real], pa.float32())),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=ANSWERS)

    @cached_property
    def _words(self) -> tuple[Words, Words]:
        """Items and event types by id: made once, as it takes longer than an answer."""
        shop = self.catalog
        items, types = ({w: n for n, w in enumerate(ws)} for ws in (shop.ids.tolist(), shop.types))
        return items, types

    def _default_type(self) -> int:
        for index, name in enumerate(self.catalog.types):
            if index and (not self.targets or name in self.targets):
                return index
        return 0

    def _now(self, batch: pa.Table, at: Floats, lengths: NDArray[np.int64]) -> Floats:
        """The `now` column; where it says nothing the next window's start, or for sessions the
        last event."""
        if self.task == "next_window":
            usual = np.full(len(batch), self.learned + 1, np.float32)
        else:
            usual, some = np.full(len(batch), np.nan, np.float32), lengths > 0
            usual[some] = at[offsets_of(lengths)[1:][some] - 1]
        if "now" not in batch.column_names:
            return usual
        told = self.clock.at(batch.column("now").combine_chunks())
        return np.where(np.isnan(told), usual, told)


def check_columns(names: Sequence[str]) -> None:
    """Raises SourceError where a request would lack its id or its items."""
    missing = [name for name in ("request_id", "items") if name not in names]
    if missing:
        raise SourceError(
            f"histories must have the columns request_id and items, got "
            f"{', '.join(names)}; rename or add {', '.join(missing)}"
        )


def _lists(batch: pa.Table, name: str) -> pa.ListArray:
    column = batch.column(name).combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type):  # nobody has a history, or there is no request
        column = column.cast(pa.list_(pa.string()))
    if pa.types.is_primitive(column.type) and not pa.types.is_boolean(column.type):
        # CSV whose lists all have one element
        offsets = offsets_of(np.asarray(column.is_valid()).astype(np.int64)).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), column.drop_null())
    if _is_text(column.type):
        column = pa.array(map(_elements, column.to_pylist()), pa.list_(pa.string()))
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise SourceError(f"{name} must be a column of lists, got {column.type}")
    return column


def _elements(text: str | None) -> list[str | None]:
    """What a CSV has for a list: JSON, a list or an array as Python prints it, or 12 7 31."""
    inner = (text or "").strip()
    if not inner.startswith("["):
        return [word for word in re.split(r"[\s,\"']+", inner) if word]
    try:
        found = json.loads(inner, parse_int=str, parse_float=str, parse_constant=str)
        return [None if value is None else str(value) for value in found]
    except ValueError:
        return [_unquoted(word) for word in WORD.findall(inner.strip("[]"))]


def _unquoted(word: str) -> str:
    try:
        return str(ast.literal_eval(word)) if word[0] in "'\"" else word
    except (ValueError, SyntaxError):
        return word.strip("'\"")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _moments(texts: pa.Array) -> pa.Array:
    """ISO text as timestamps (UTC where it names no zone); numbers in text as numbers."""
    numbers = pc.match_substring_regex(texts, r"^-?\d+(\.\d*)?$")
    if pc.all(numbers, min_count=0).as_py():
        return pc.cast(texts, pa.float64())
    try:
        return pa.array(pd.to_datetime(texts.to_pandas(), utc=True, format="ISO8601"))
    except ValueError as error:
        first = str(error).split(". ")[0]
        raise SourceError(f"times must be timestamps, ISO text or numbers: {first}") from None


def _values(batch: pa.Table, name: str, lengths: NDArray[np.int64]) -> pa.Array:
    column = _lists(batch, name)
    own = np.asarray(column.value_lengths().fill_null(0)).astype(np.int64)
    wrong = np.flatnonzero(own != lengths)
    if len(wrong):
        first = batch.column("request_id")[int(wrong[0])].as_py()
        raise SourceError(
            f"{name} must be as long as items, got {own[wrong[0]]} and {lengths[wrong[0]]} in "
            f"request {first!r} ({len(wrong)} such requests)"
        )
    return column.flatten()


def _indices(values: pa.Array, words: Words) -> Ints:
    """Index of each id in `words`; 0 for what is not there."""
    if pa.types.is_floating(values.type):
        values = pc.cast(values, pa.int64(), safe=False)
    # As landing reads them: pandas writes integer ids with gaps as 12.0.
    plain = pc.replace_substring_regex(pc.cast(values, pa.string()), r"^([-+]?\d+)\.0+$", r"\1")
    texts = plain.to_pylist()
    return np.fromiter((words.get(text, 0) for text in texts), np.int32, len(texts))
