"""Histories as they might have been: cropped, masked, reordered (Xie et al. 2022, CL4SRec).

Only what the Transformer reads is changed: what a user has, and how often, stays as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_lib.settings import TrainSettings

READ = ("recent_items", "recent_types", "recent_facts")
Tensors = dict[str, NDArray]


def augmented(x: Tensors, settings: TrainSettings, random: np.random.Generator) -> Tensors:
    """The tensors of `READ`, [B, L, ...] and right-aligned, changed at random; others untouched.

    A crop leaves at least the latest half, a mask the latest event; a quarter is shuffled at once.
    """
    if not (settings.crop or settings.mask or settings.reorder):
        return x
    rows, width = x["recent_items"].shape
    lengths = (x["recent_items"] > 0).sum(1)
    place = np.arange(width)[None]
    back = width - 1 - place  # 0 is the latest event
    hidden = random.random((rows, width)) < settings.mask
    kept = lengths * np.where(random.random(rows) < settings.crop, random.uniform(0.5, 1, rows), 1)
    hidden |= back >= np.ceil(kept)[:, None]
    hidden &= back > 0
    order = _shuffled(lengths, place, settings.reorder, random)
    out = dict(x)
    for name in READ:
        deeper = (1,) * (x[name].ndim - 2)
        moved = np.take_along_axis(x[name], order.reshape(*order.shape, *deeper), 1)
        out[name] = np.where(hidden.reshape(*hidden.shape, *deeper), x[name].dtype.type(0), moved)
    return out


def _shuffled(
    lengths: NDArray[np.int64], place: NDArray[np.int64], share: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """Places [B, L] in a new order: a quarter of the events is shuffled in a share of the rows."""
    rows, width = len(lengths), place.shape[1]
    span = np.where(random.random(rows) < share, lengths // 4, 0)
    first = width - lengths + (random.random(rows) * (lengths - span + 1)).astype(np.int64)
    inside = (place >= first[:, None]) & (place < (first + span)[:, None])
    noise = first[:, None] + random.random((rows, width)) * span[:, None]
    order: NDArray[np.int64] = np.argsort(np.where(inside, noise, place), axis=1, kind="stable")
    return order
