"""How the gradients of all ranks become one, and what that sends over the network.

Dense gradients go in one grouped all-reduce. The gradient of a table has the rows that a batch has
looked up, some of them many times; each row is summed up first, and then joined in the way that
sends the fewest bytes, all of which give the same rows:

whole   an all-reduce of the whole table, for small ones
gather  every rank gets the rows of every other rank
unique  every rank gets the row numbers of the others, then the rows that any of them has are
        all-reduced as one block: less, where ranks look up the same rows

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

from recsys_lib.model.tensorflow import tf
from recsys_lib.settings import RanksSettings

Way = Literal["whole", "gather", "unique"]
NUMBER = 4
"""Bytes of a float32 and of a row's number."""


@dataclass(frozen=True)
class Rows:
    """Of one table: how many it has and how wide they are; how many of them one rank looks up in
    a step, and how many all ranks together."""

    table: int
    width: int
    own: int
    union: int


def bytes_of(way: Way, rows: Rows, ranks: int, number: int = NUMBER) -> float:
    """What a rank sends in one step. `number`: bytes of a float on the network."""
    ring = 2 * (ranks - 1) / ranks
    if way == "whole":
        return ring * rows.table * (rows.width + 1) * number
    numbers = (ranks - 1) * rows.own * NUMBER
    if way == "gather":
        return numbers + (ranks - 1) * rows.own * rows.width * number
    return numbers + ring * rows.union * rows.width * number


def best_way(rows: Rows, ranks: int) -> Way:
    ways: tuple[Way, ...] = ("whole", "gather", "unique")
    return min(ways, key=lambda way: bytes_of(way, rows, ranks))


def looked_up(pool: NDArray[np.int32], tables: Mapping[str, tuple[int, int]]) -> dict[str, Rows]:
    """By the first batch: `pool` is this rank's, `tables` are shapes by name. Equal on all ranks.

    Of tables that are not looked up by item nothing is known but their size, which is small.
    """
    union, own = len(pool), len(pool)
    if hvd.size() > 1:
        every = hvd.allgather(tf.constant(pool)).numpy()
        union, own = len(np.unique(every)), -(-len(every) // hvd.size())
    found = {}
    for name, (table, width) in tables.items():
        most = (own, union) if name.split("/")[0] in ITEM_TABLES else (table, table)
        found[name] = Rows(table, width, min(most[0], table), min(most[1], table))
    return found


ITEM_TABLES = ("items", "item_bias", "copy_bias")


class Reducer:
    """Averages gradients over the ranks. `ways`: how each table's is joined, by its name."""

    def __init__(self, settings: RanksSettings, ways: Mapping[str, Way]) -> None:
        fp16 = settings.compression == "fp16"
        self._compression = hvd.Compression.fp16 if fp16 else hvd.Compression.none
        self._ways = ways

    def __call__(
        self, gradients: Sequence[Any], names: Sequence[str]
    ) -> tuple[list[Any], tf.Tensor]:
        """In the order they came, and the norm of all. Tables keep to the rows that were looked up;
        in the norm each look-up counts for itself: a few rows that all examples share would else
        decide alone by how much a step is shortened."""
        found = [_summed(g) if _is_table(g) else g for g in gradients]
        dense = [g for g in found if not _is_table(g)]
        squares = tf.add_n([_squares(g.values) for g in gradients if _is_table(g)] or [0.0])
        if hvd.size() > 1:
            dense = self._mean(dense)
            # Never compressed: of long gradients it is more than a half can hold.
            squares = hvd.allreduce(squares, op=hvd.Average, name="squares") / hvd.size()
        joined = iter(dense)
        reduced = [
            self._rows(g, self._ways.get(name, "unique"), name) if _is_table(g) else next(joined)
            for g, name in zip(found, names, strict=True)
        ]
        return reduced, tf.sqrt(tf.add_n([squares, *map(_squares, dense)]))

    def _mean(self, dense: list[tf.Tensor]) -> list[tf.Tensor]:
        """All or none at a time: one message, however many there are."""
        how = {"op": hvd.Average, "compression": self._compression}
        return list(hvd.grouped_allreduce(dense, name="dense", **how))

    def _rows(self, gradient: tf.IndexedSlices, way: Way, name: str) -> tf.IndexedSlices:
        if hvd.size() == 1:
            return gradient
        rows, values = gradient.indices, gradient.values
        named = name.replace("/", ".")
        if way == "whole":
            return self._whole(gradient, named)
        every = hvd.allgather(rows, name=f"{named}.rows")
        if way == "gather":
            told, context = self._compression.compress(values)
            gathered = hvd.allgather(told, name=f"{named}.values")
            gathered = self._compression.decompress(gathered, context)
            share = 1.0 / tf.cast(hvd.size(), values.dtype)
            return _summed(tf.IndexedSlices(gathered * share, every, gradient.dense_shape))
        union = tf.sort(tf.unique(every)[0])
        place = tf.searchsorted(union, rows)
        block = tf.math.unsorted_segment_sum(values, place, tf.size(union))
        block = hvd.allreduce(
            block, op=hvd.Average, compression=self._compression, name=f"{named}.block"
        )
        return tf.IndexedSlices(block, union, gradient.dense_shape)

    def _whole(self, gradient: tf.IndexedSlices, named: str) -> tf.IndexedSlices:
        """A further column says which rows any rank has looked up: the others must not move."""
        seen = tf.ones_like(gradient.values[:, :1])
        wide = tf.concat([gradient.values, seen], 1)
        size = gradient.dense_shape[0]
        table = tf.math.unsorted_segment_sum(wide, gradient.indices, size)
        table = hvd.allreduce(
            table, op=hvd.Average, compression=self._compression, name=f"{named}.table"
        )
        rows = tf.cast(tf.where(table[:, -1] > 0)[:, 0], gradient.indices.dtype)
        return tf.IndexedSlices(tf.gather(table[:, :-1], rows), rows, gradient.dense_shape)


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
