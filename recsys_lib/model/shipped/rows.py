"""Tables of vectors in eight bits: each row has a scale of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.compiled import unpacked
from recsys_lib.model.histories import Floats


@dataclass(frozen=True)
class Rows:
    """values int8 [N, D] times scale float32 [N]; float32 values, and no scale, for 32 bits."""

    values: NDArray[Any]
    scale: Floats | None

    @classmethod
    def of(cls, table: Floats, bits: int) -> Rows:
        if bits == 32:
            return cls(np.ascontiguousarray(table, np.float32), None)
        scale = (np.abs(table).max(1, initial=0.0) / 127.0).astype(np.float32)
        steps = np.where(scale > 0, scale, 1.0)[:, None]
        return cls(np.rint(table / steps).astype(np.int8), scale)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, places: NDArray[Any]) -> Floats:
        """Rows at these places: float32 [..., D]."""
        if self.scale is None:
            return np.asarray(self.values[places])
        found = unpacked(self.values, self.scale, places.ravel())
        return found.reshape(*places.shape, self.values.shape[1])

    @property
    def scales(self) -> Floats:
        """Of each row: [N]; one for those that are not scaled."""
        return np.broadcast_to(np.float32(1), len(self)) if self.scale is None else self.scale

    def all(self) -> Floats:
        return self.take(np.arange(len(self)))

    def extended(self, more: Floats) -> Rows:
        """With these float rows at the end."""
        new = Rows.of(more, 8 if self.scale is not None else 32)
        values = np.concatenate([self.values, new.values])
        if self.scale is None or new.scale is None:
            return Rows(values, None)
        return Rows(values, np.concatenate([self.scale, new.scale]))

    def padded(self, rows: int) -> Rows:
        """At least so many, the new ones zero: words that came later say nothing yet."""
        scale = None if self.scale is None else padded(self.scale, rows)
        return Rows(padded(self.values, rows), scale)

    def replaced(self, places: NDArray[np.int64], rows: Floats) -> Rows:
        """With these float rows at these places."""
        new = Rows.of(rows, 8 if self.scale is not None else 32)
        values = self.values.copy()
        values[places] = new.values
        if self.scale is None or new.scale is None:
            return Rows(values, None)
        scale = self.scale.copy()
        scale[places] = new.scale
        return Rows(values, scale)


def padded(table: NDArray[Any], rows: int) -> NDArray[Any]:
    """With zero rows at its end, so that there are at least `rows`."""
    missing = max(0, rows - len(table))
    return np.pad(table, [(0, missing), *[(0, 0)] * (table.ndim - 1)]) if missing else table
