"""Rows of the `sequences` table -> what a scorer is asked, and what happened next.

The same function makes the exam of a window and, once it has been judged, its lesson.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Histories, Targets
from recsys_lib.model.ragged import offsets_of, spans

Task = Literal["next_window", "next_item"]
MOST_EVENTS = 8_000_000
"""Events that the requests of some rows may hold in memory at once: some 200 MB."""


def requests(
    batch: pa.RecordBatch | pa.Table,
    task: Task,
    target_types: frozenset[int] | None = None,
    known_items: int | None = None,
    *,
    learned: bool = False,
) -> tuple[Histories, Targets, NDArray[np.int64]]:
    """One request per decision point of each row; int64 [B] says which row it came from.

    next_window  a decision at the start of every window of the row's new events that has
                 something before it; the targets are that window's events of `target_types`.
    next_item    a decision before every new event but a user's first; the target is that event.

    `known_items` (next_item only) drops events of items with a larger index, and of item 0,
    before anything else, as session benchmarks do (Mi et al., RecSys 2020, section 4).

    Requests that are to be `learned` carry the fold of their user: what is near is then told
    without the events of that fold, in which the targets are. An exam's targets are not counted
    yet, so nothing is left out there.
    """
    rows = _Rows.of(batch)
    if task == "next_item" and known_items is not None:
        rows = rows.where((rows.items > 0) & (rows.items <= known_items))
    cuts, row = rows.window_cuts() if task == "next_window" else rows.item_cuts(target_types)
    starts = rows.offsets[row]
    take = spans(starts, cuts - starts)
    offsets = offsets_of(cuts - starts)
    if task == "next_window":
        now = np.floor(rows.at[cuts])
        targets = rows.window_targets(cuts, row, target_types)
    else:
        now = rows.at[cuts - 1]
        each = np.arange(len(cuts) + 1, dtype=np.int64)
        worth, at = _taken(rows.values, cuts), rows.at[cuts]
        targets = Targets(each, rows.items[cuts], rows.types[cuts], worth, at)
    histories = Histories(
        offsets=offsets,
        items=rows.items[take],
        types=rows.types[take],
        at=rows.at[take],
        now=now.astype(np.float32),
        profile=rows.profile[row],
        fold=_taken(rows.fold, row) if learned else None,
        values=_taken(rows.values, take),
    )
    if task == "next_window":
        asked = np.diff(targets.offsets) > 0
        if not asked.all():
            return select(histories, np.flatnonzero(asked)), _kept(targets, asked), row[asked]
    return histories, targets, row


def in_parts(
    batch: pa.RecordBatch, task: Task = "next_item", most: int = MOST_EVENTS
) -> Iterator[pa.RecordBatch]:
    """The rows in parts, in order, whose requests hold about `most` events together: a row is
    asked before each new event, or each new window, each time with all that came before. A part
    is a row at least. The bound of next_item is one of both tasks.
    """
    whole = pc.list_value_length(batch.column("items")).to_numpy(zero_copy_only=False)
    known = batch.column("known").to_numpy(zero_copy_only=False).astype(np.int64)
    new = whole - known
    held = new * (known + new / 2)
    if task == "next_window" and held.sum() >= most:
        rows = _Rows.of(batch)
        cuts, row = rows.window_cuts()
        held = np.bincount(row, weights=cuts - rows.offsets[row], minlength=batch.num_rows)
    part = np.cumsum(held) // most
    starts = np.flatnonzero(np.diff(part, prepend=-1.0))
    for start, end in pairwise([*starts.tolist(), batch.num_rows]):
        yield batch.slice(start, end - start)


def whole_histories(batch: pa.RecordBatch | pa.Table, now: float | None) -> Histories:
    """Rows of the `histories` table as they are, all asked at `now` on the window axis.

    Without `now` each is asked at its last event, as sessions are; NaN where it has none.
    """
    table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    known = pa.array(np.zeros(len(table), np.int32))
    rows = _Rows.of(table.append_column("known", known))
    return Histories(
        rows.offsets,
        rows.items,
        rows.types,
        rows.at,
        _last(rows) if now is None else np.full(len(table), now, np.float32),
        rows.profile,
        values=rows.values,
    )


def _last(rows: _Rows) -> NDArray[np.float32]:
    """When the last event of each row was."""
    some = np.diff(rows.offsets) > 0
    last = np.full(len(some), np.nan, np.float32)
    last[some] = rows.at[rows.offsets[1:][some] - 1]
    return last


def known_to(shop: Catalog, histories: Histories) -> Histories:
    """The histories with what the shop does not know (items, types, profiles) as unknown."""
    width = len(shop.profile)
    profile = histories.profile
    if profile.shape[1] != width:
        profile = np.zeros((len(histories), width), np.int32)
    return replace(
        histories,
        items=_at_most(histories.items, shop.items),
        types=_at_most(histories.types, len(shop.types) - 1),
        profile=_at_most(profile, np.asarray(shop.profile, np.int32)),
    )


def _at_most(indices: NDArray[np.int32], last: Any) -> NDArray[np.int32]:
    known = indices <= last
    return indices if known.all() else np.where(known, indices, 0)


def select(histories: Histories, chosen: NDArray[np.int64]) -> Histories:
    """The histories at positions `chosen`, in that order."""
    starts, lengths = histories.offsets[chosen], np.diff(histories.offsets)[chosen]
    if len(chosen) and (np.diff(chosen) == 1).all():  # as they stand: nothing is copied
        take: Any = slice(starts[0], starts[-1] + lengths[-1])
    else:
        take = spans(starts, lengths)
    return Histories(
        offsets=offsets_of(lengths),
        items=histories.items[take],
        types=histories.types[take],
        at=histories.at[take],
        now=histories.now[chosen],
        profile=histories.profile[chosen],
        fold=_taken(histories.fold, chosen),
        values=_taken(histories.values, take),
    )


def select_targets(targets: Targets, chosen: NDArray[np.int64]) -> Targets:
    """The targets at positions `chosen`, in that order."""
    lengths = np.diff(targets.offsets)[chosen]
    take = spans(targets.offsets[chosen], lengths)
    told = (_taken(column, take) for column in (targets.types, targets.values, targets.at))
    return Targets(offsets_of(lengths), targets.items[take], *told)


def had_before(histories: Histories, targets: Targets) -> NDArray[np.bool_]:
    """Of each target whether it is in the history that it follows: bool [T]."""
    row = np.arange(len(histories), dtype=np.int64).repeat(np.diff(targets.offsets))
    return np.isin(row << 32 | targets.items, histories.row << 32 | histories.items)


def _taken(values: Any, places: NDArray[Any]) -> Any:
    """values[places] of what may not be there."""
    return None if values is None else values[places]


def _kept(targets: Targets, asked: NDArray[np.bool_]) -> Targets:
    return select_targets(targets, np.flatnonzero(asked))


class _Rows:
    """Sequence rows as flat arrays: row r is offsets[r] : offsets[r + 1], new from `new[r]`."""

    def __init__(
        self,
        offsets: NDArray[np.int64],
        new: NDArray[np.int64],
        items: NDArray[np.int32],
        types: NDArray[np.int32],
        at: NDArray[np.float32],
        profile: NDArray[np.int32],
        fold: NDArray[np.int8] | None = None,
        values: NDArray[np.float32] | None = None,
    ) -> None:
        self.offsets, self.new = offsets, new
        self.items, self.types, self.at, self.profile = items, types, at, profile
        self.fold, self.values = fold, values

    @classmethod
    def of(cls, batch: pa.RecordBatch | pa.Table) -> _Rows:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        lists = table.column("items").combine_chunks()
        offsets = offsets_of(np.asarray(lists.value_lengths().fill_null(0)).astype(np.int64))
        known = np.asarray(table.column("known")).astype(np.int64)
        rows = len(table)
        width = len(_flat(table, "profile", np.int32)) // rows if rows else 0
        return cls(
            offsets=offsets,
            new=offsets[:-1] + known,
            items=_flat(table, "items", np.int32),
            types=_flat(table, "types", np.int32),
            at=_flat(table, "at", np.float32),
            profile=_flat(table, "profile", np.int32).reshape(rows, width),
            fold=np.asarray(table.column("fold"), np.int8)
            if "fold" in table.column_names
            else None,
            values=_flat(table, "values", np.float32) if "values" in table.column_names else None,
        )

    @property
    def row(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.new)), np.diff(self.offsets))

    def where(self, keep: NDArray[np.bool_]) -> _Rows:
        """Only the events that `keep` marks; rows stay, some shorter."""
        before = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
        return _Rows(
            offsets=before[self.offsets],
            new=before[self.new],
            items=self.items[keep],
            types=self.types[keep],
            at=self.at[keep],
            profile=self.profile,
            fold=self.fold,
            values=_taken(self.values, keep),
        )

    def window_cuts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Event positions at which a new window of a row starts, and their rows."""
        row, window = self.row, np.floor(self.at)
        position = np.arange(len(row))
        starts = np.ones(len(row), dtype=bool)
        starts[1:] = (window[1:] != window[:-1]) | (row[1:] != row[:-1])
        starts |= position == self.new[row] if len(row) else starts
        starts &= (position >= self.new[row]) & (position > self.offsets[row])
        cuts = np.flatnonzero(starts)
        return cuts, row[cuts]

    def item_cuts(
        self, target_types: frozenset[int] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Event positions that can be predicted from what comes before them, and their rows."""
        row, position = self.row, np.arange(len(self.items))
        asked = (position >= self.new[row]) & (position > self.offsets[row]) & (self.items > 0)
        if target_types is not None:
            asked &= np.isin(self.types, list(target_types))
        cuts = np.flatnonzero(asked)
        return cuts, row[cuts]

    def window_targets(
        self,
        cuts: NDArray[np.int64],
        row: NDArray[np.int64],
        target_types: frozenset[int] | None,
    ) -> Targets:
        """Events of the cut's own window, from the cut to the next cut of its row."""
        last_of_row = np.ones(len(cuts), dtype=bool)
        last_of_row[:-1] = row[1:] != row[:-1]
        ends = np.append(cuts[1:], 0)
        ends[last_of_row] = self.offsets[row + 1][last_of_row]
        take = spans(cuts, ends - cuts)
        wanted = self.items[take] > 0
        if target_types is not None:
            wanted &= np.isin(self.types[take], list(target_types))
        counts = np.add.reduceat(np.append(wanted, 0), offsets_of(ends - cuts)[:-1])
        kept = take[wanted]
        offsets = offsets_of(counts.astype(np.int64))
        worth, at = _taken(self.values, kept), self.at[kept]
        return Targets(offsets, self.items[kept], self.types[kept], worth, at)


def _flat(table: pa.Table, column: str, kind: type) -> NDArray:
    values = table.column(column).combine_chunks().flatten()
    return np.asarray(values.fill_null(0)).astype(kind, copy=False)
