"""Whether people come back to an item, and when: what tells a weekly staple from a gift.

A user takes an item at most once in a window. The first such window of a user and an item is a
`first`; one that follows is a `return`, and `gap` is the number of windows since the last one.
Sums of these over users are the empirical hazard of taking an item again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

COUNTS = ("firsts", "seconds", "returns", "gaps")
SCHEMA = "`window` int, index int, firsts bigint, seconds bigint, returns bigint, gaps bigint"


def item_returns(sequences: DataFrame, types: Collection[int] | None) -> DataFrame:
    """SCHEMA, of the new events of `sequences` rows: by window and item, how many users took it for
    the first time, for the second, again at all, and after how many windows, all added up.

    `types`: event types that count; None: all. Events that came late are in nobody's sequence
    before the next window, so as a taking of their own they count nowhere.
    """
    wanted = None if types is None else sorted(types)

    def parts_of(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield counted(batch, wanted)

    parts = sequences.select("items", "types", "at", "known").mapInArrow(parts_of, SCHEMA)
    summed = parts.groupBy("window", "index").agg(*(F.sum(name).alias(name) for name in COUNTS))
    return summed.select("window", "index", *COUNTS)


def counted(batch: pa.RecordBatch, types: list[int] | None) -> pa.RecordBatch:
    items, kinds, at = (_flat(batch, name) for name in ("items", "types", "at"))
    lengths = batch.column("items").value_lengths().to_numpy(zero_copy_only=False)
    row = np.arange(batch.num_rows).repeat(lengths)
    start = np.cumsum(lengths) - lengths
    new = np.arange(len(items)) - start[row] >= batch.column("known").to_numpy()[row]
    kept = (items > 0) & np.isfinite(at)
    if types is not None:
        kept &= np.isin(kinds, types)
    item, row, new = items[kept], row[kept], new[kept]
    window = np.floor(at[kept]).astype(np.int32)
    # Stable: of one window's events the earliest comes first, and says whether it was counted.
    order = np.lexsort((window, item, row))
    item, row, window, new = item[order], row[order], window[order], new[order]
    same = _repeats(row) & _repeats(item)
    taken = ~(same & _repeats(window))
    item, window, new, same = item[taken], window[taken], new[taken], same[taken]
    gap = np.where(same, np.diff(window, prepend=0), 0)
    second = same & ~np.concatenate([[False], same])[:-1]
    key = np.stack([window, item])[:, new]
    pairs, place = np.unique(key, axis=1, return_inverse=True)
    told = (~same[new], second[new], same[new], gap[new])
    sums = [np.bincount(place.ravel(), weights=t, minlength=pairs.shape[1]) for t in told]
    columns = [pairs[0].astype(np.int32), pairs[1].astype(np.int32)]
    whole = [*columns, *(s.astype(np.int64) for s in sums)]
    return pa.RecordBatch.from_arrays([pa.array(c) for c in whole], ["window", "index", *COUNTS])


def _flat(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    return np.asarray(batch.column(name).flatten())


def _repeats(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which equal the one before."""
    return np.concatenate([[False], values[1:] == values[:-1]])[: len(values)]
