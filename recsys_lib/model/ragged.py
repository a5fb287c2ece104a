"""Index arithmetic on CSR arrays: the few moves that keep ragged batches out of Python loops."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

Int64s = NDArray[np.int64]


def spans(starts: Int64s, lengths: Int64s) -> Int64s:
    """Concatenate the ranges starts[i] : starts[i] + lengths[i]; int64 [sum(lengths)]."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(offsets[-1], dtype=np.int64) - np.repeat(offsets[:-1], lengths)
    return np.repeat(starts, lengths) + within


def offsets_of(lengths: Int64s) -> Int64s:
    """CSR offsets int64 [B + 1] of rows with these lengths."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def pad_left(values: NDArray[Scalar], offsets: Int64s, width: int, fill: float) -> NDArray[Scalar]:
    """The last `width` values of each row, right-aligned: [B, width, ...]."""
    ends = offsets[1:]
    lengths = np.minimum(np.diff(offsets), width)
    out = np.full((len(ends), width, *values.shape[1:]), fill, dtype=values.dtype)
    rows = np.repeat(np.arange(len(ends)), lengths)
    columns = spans(width - lengths, lengths)
    out[rows, columns] = values[spans(ends - lengths, lengths)]
    return out


def pad_right(values: NDArray[Scalar], offsets: Int64s, width: int, fill: float) -> NDArray[Scalar]:
    """The first `width` values of each row, left-aligned: [B, width, ...]."""
    lengths = np.minimum(np.diff(offsets), width)
    out = np.full((len(lengths), width, *values.shape[1:]), fill, dtype=values.dtype)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    out[rows, spans(np.zeros_like(lengths), lengths)] = values[spans(offsets[:-1], lengths)]
    return out
