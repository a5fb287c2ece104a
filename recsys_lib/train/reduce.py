"""How the gradients of all ranks become one, and what that sends over the network.

All that is all-reduced goes as one tensor. The gradient of a table has the rows that a batch has
looked up, some of them many times; each row is summed up first, and then joined in the way that
sends fewer bytes:

whole   an all-reduce of the whole table, for small ones
unique  every rank gets the row numbers of the others, then the rows that any of them has are
        all-reduced as one block

Bytes are those that one rank sends in a ring (Patarasuk and Yuan 2009): 2 (N - 1) / N of the size
for an all-reduce, N - 1 times its own part for a gather.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import horovod.tensorflow as hvd
import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.tail import ITEM_TABLES
from recsys_lib.model.tensorflow import tf
from recsys_lib.settings import RanksSettings

Way = Literal["whole", "unique"]
TOLD = "told"
"""What goes with the gradients: how long those of the tables are, and what the caller adds."""
NUMBER = 4
"""Bytes of a float32 and of a row's number."""
AT_ONCE = 512
"""Rows of a table that are looked up are sent by so many: about an eighth of what a step sends."""


@dataclass(frozen=True)
class Rows:
    """Of a bundle of tables: how many it has and how wide they are; how many of them one rank looks
    up in a step, and how many all ranks together."""

    table: int
    width: int
    own: int
    union: int


def bytes_of(way: Way, rows: Rows, ranks: int, number: int = NUMBER) -> float:
    """What a rank sends in one step. `number`: bytes of a float on the network."""
    ring = 2 * (ranks - 1) / ranks
    if way == "whole":
        return ring * rows.table * (rows.width + 1) * number
    return (ranks - 1) * rows.own * NUMBER + ring * rows.union * rows.width * number


def best_way(rows: Rows, ranks: int) -> Way:
    ways: tuple[Way, ...] = ("whole", "unique")
    return min(ways, key=lambda way: bytes_of(way, rows, ranks))


def looked_up(pool: NDArray[np.int32], tables: Mapping[str, tuple[int, int]]) -> dict[str, Rows]:
    """By the first batch: `pool` is this rank's, `tables` are shapes by variable. Equal on all
    ranks; by bundle of tables (see `bundle_of`).

    Of tables that are not looked up by item nothing is known but their size, which is small.
    """
    union, own = len(pool), len(pool)
    if hvd.size() > 1:
        every = hvd.allgather(tf.constant(pool)).numpy()
        union, own = len(np.unique(every)), -(-len(every) // hvd.size())
    found: dict[str, Rows] = {}
    for name, (table, width) in tables.items():
        bundle = bundle_of(name)
        most = (own, union) if bundle == ITEMS else (table, table)
        wide = width + (found[bundle].width if bundle in found else 0)
        found[bundle] = Rows(table, wide, min(most[0], table), min(most[1], table))
    return found


ITEMS = "items"


def bundle_of(name: str) -> str:
    """Tables that are looked up by the pool's items have the same rows, and are sent as one."""
    table = name.split("/")[0]
    return ITEMS if table in ITEM_TABLES else table


class Reducer:
    """Averages gradients over the ranks. `ways`: how each bundle of tables is joined."""

    def __init__(self, settings: RanksSettings, ways: Mapping[str, Way]) -> None:
        fp16 = settings.compression == "fp16"
        self._compression = hvd.Compression.fp16 if fp16 else hvd.Compression.none
        self._ways = ways

    def __call__(
        self, gradients: Sequence[Any], names: Sequence[str], numbers: tf.Tensor
    ) -> tuple[list[Any], tf.Tensor, tf.Tensor]:
        """The gradients in the order they came, the norm of all, and the mean of `numbers` [K],
        which are sent along.

        Tables keep to the rows that were looked up. In the norm each look-up counts for itself: a
        few rows that all examples share would else decide alone by how much a step is shortened.
        Of the ranks' lengths of these it takes the mean.
        """
        tables = {n: g for n, g in zip(names, gradients, strict=True) if _is_table(g)}
        dense = {n: g for n, g in zip(names, gradients, strict=True) if not _is_table(g)}
        squares = tf.add_n([_squares(g.values) for g in tables.values()] or [tf.constant(0.0)])
        sums = {name: _summed(gradient) for name, gradient in tables.items()}
        if hvd.size() > 1:
            # As a length: of long gradients the squares are more than a half can hold.
            length = tf.sqrt(squares / hvd.size())
            told = tf.concat([length[None], numbers], 0)
            dense, sums = self._joined({**dense, TOLD: told}, sums)
            told = dense.pop(TOLD)
            squares, numbers = tf.square(told[0]), told[1:]
        found = {**dense, **sums}
        norm = tf.sqrt(tf.add_n([squares, *map(_squares, dense.values())]))
        return [found[name] for name in names], norm, numbers

    def _joined(
        self, dense: dict[str, tf.Tensor], tables: dict[str, tf.IndexedSlices]
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.IndexedSlices]]:
        """The means over the ranks, by name."""
        bundles: dict[str, list[str]] = {}
        for name in tables:
            bundles.setdefault(bundle_of(name), []).append(name)
        wide = {bundle: _beside([tables[n] for n in own]) for bundle, own in bundles.items()}
        parts = {bundle: self._part(bundle, slices) for bundle, slices in wide.items()}
        mean = self._means([*dense.values(), *(block for block, _ in parts.values())])
        blocks = dict(zip(parts, mean[len(dense) :], strict=True))
        rows = {b: _rows_of(blocks[b], union, wide[b]) for b, (_, union) in parts.items()}
        back: dict[str, tf.IndexedSlices] = {}
        for bundle, own in bundles.items():
            split = _apart(rows[bundle], [tables[name] for name in own])
            back |= dict(zip(own, split, strict=True))
        return dict(zip(dense, mean[: len(dense)], strict=True)), back

    def _means(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Of a group of tensors Horovod's ranks would agree on each in turn, at every step: of two
        ranks' step that took a tenth."""
        flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)
        how = {"op": hvd.Average, "compression": self._compression}
        mean = hvd.allreduce(flat, name="gradients", **how)
        sizes = tf.stack([tf.size(tensor) for tensor in tensors])
        parts = tf.split(mean, sizes, num=len(tensors))
        return [tf.reshape(part, tf.shape(like)) for part, like in zip(parts, tensors, strict=True)]

    def _part(self, bundle: str, slices: tf.IndexedSlices) -> tuple[tf.Tensor, tf.Tensor | None]:
        """What a bundle gives to the all-reduce, and the rows it stands for; None: the whole table,
        whose last column says which rows any rank has looked up. The others must not move."""
        rows, values = slices.indices, slices.values
        way = self._ways.get(bundle, "unique")
        if way == "whole":
            seen = tf.ones_like(values[:, :1])
            size = slices.dense_shape[0]
            return tf.math.unsorted_segment_sum(tf.concat([values, seen], 1), rows, size), None
        more = _rounded(tf.size(rows)) - tf.size(rows)
        every = hvd.allgather(tf.concat([rows, tf.fill([more], rows[0])], 0), name=f"{bundle}.rows")
        union = tf.sort(tf.unique(every)[0])
        place, size = tf.searchsorted(union, rows), _rounded(tf.size(union))
        return tf.math.unsorted_segment_sum(values, place, size), union


def _rounded(rows: tf.Tensor) -> tf.Tensor:
    """Horovod's ranks agree once on a tensor of one shape; on each new shape they agree anew, by
    six rounds of messages. So the number of rows that are sent changes seldom."""
    return -(-rows // AT_ONCE) * AT_ONCE


def _rows_of(block: tf.Tensor, union: tf.Tensor | None, like: tf.IndexedSlices) -> tf.IndexedSlices:
    if union is not None:
        return tf.IndexedSlices(block[: tf.size(union)], union, like.dense_shape)
    rows = tf.cast(tf.where(block[:, -1] > 0)[:, 0], like.indices.dtype)
    return tf.IndexedSlices(tf.gather(block[:, :-1], rows), rows, like.dense_shape)


def _beside(tables: list[tf.IndexedSlices]) -> tf.IndexedSlices:
    """Tables with the same rows, as one."""
    if len(tables) == 1:
        return tables[0]
    values = tf.concat([table.values for table in tables], 1)
    return tf.IndexedSlices(values, tables[0].indices, tables[0].dense_shape)


def _apart(rows: tf.IndexedSlices, tables: list[tf.IndexedSlices]) -> list[tf.IndexedSlices]:
    """The inverse of `_beside`."""
    if len(tables) == 1:
        return [rows]
    parts = tf.split(rows.values, [table.values.shape[1] for table in tables], 1)
    return [
        tf.IndexedSlices(part, rows.indices, table.dense_shape)
        for part, table in zip(parts, tables, strict=True)
    ]


def _squares(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(values))


def _is_table(gradient: Any) -> bool:
    return isinstance(gradient, tf.IndexedSlices)


def added(gradients: list[Any]) -> Any:
    """Their mean; None where a variable has none. Rows of tables are put beside each other."""
    if gradients[0] is None or len(gradients) == 1:
        return gradients[0]
    if not _is_table(gradients[0]):
        return tf.add_n(gradients) / len(gradients)
    values = tf.concat([gradient.values for gradient in gradients], 0) / len(gradients)
    rows = tf.concat([gradient.indices for gradient in gradients], 0)
    return tf.IndexedSlices(values, rows, gradients[0].dense_shape)


def _summed(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Each row once."""
    rows, place = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, place, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)
