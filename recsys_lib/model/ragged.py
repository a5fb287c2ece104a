"""Index arithmetic on CSR arrays: the few moves that keep ragged batches out of Python loops."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

Int64s = NDArray[np.int64]


def spans(starts: Int64s, lengths: Int64s) -> Int64s:
    """Concatenate the ranges starts[i] : starts[i] + lengths[i]; int64 [sum(lengths)]."""
    if len(starts) == 1:  # a single request is answered in less time than a dozen calls take
        return np.arange(starts[0], starts[0] + lengths[0])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(offsets[-1], dtype=np.int64) - np.repeat(offsets[:-1], lengths)
    return np.repeat(starts, lengths) + within


def offsets_of(lengths: Int64s) -> Int64s:
    """CSR offsets int64 [B + 1] of rows with these lengths."""
    if len(lengths) == 1:
        return np.array([0, lengths[0]], np.int64)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def lengths_of(offsets: Int64s) -> Int64s:
    """Lengths int64 [B] of rows with these CSR offsets."""
    return offsets[1:] - offsets[:-1]


def pad_left(values: NDArray[Scalar], offsets: Int64s, width: int, fill: float) -> NDArray[Scalar]:
    """The last `width` values of each row, right-aligned: [B, width, ...]."""
    ends = offsets[1:]
    out = np.full((len(ends), width, *values.shape[1:]), fill, dtype=values.dtype)
    if len(ends) == 1:
        last = values[max(offsets[0], ends[0] - width) : ends[0]]
        out[0, width - len(last) :] = last
        return out
    lengths = np.minimum(lengths_of(offsets), width)
    rows = np.repeat(np.arange(len(ends)), lengths)
    columns = spans(width - lengths, lengths)
    out[rows, columns] = values[spans(ends - lengths, lengths)]
    return out


def pad_right(values: NDArray[Scalar], offsets: Int64s, width: int, fill: float) -> NDArray[Scalar]:
    """The first `width` values of each row, left-aligned: [B, width, ...]."""
    lengths = np.minimum(lengths_of(offsets), width)
    out = np.full((len(lengths), width, *values.shape[1:]), fill, dtype=values.dtype)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    out[rows, spans(np.zeros_like(lengths), lengths)] = values[spans(offsets[:-1], lengths)]
    return out
