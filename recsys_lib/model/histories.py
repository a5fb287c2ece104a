"""The ragged batch that every scorer answers: past events of B users, oldest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Offsets = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Histories:
    """CSR form: the events of user b are rows offsets[b] : offsets[b + 1], oldest first.

    items    int32 [E]     item index (1-based; 0 is an item the vocabulary does not know)
    types    int32 [E]     event-type index (1-based; 0 unknown)
    at       float32 [E]   time on the window axis: 27.5 is the middle of window 27; NaN unknown
    now      float32 [B]   decision time on the same axis; NaN unknown
    profile  int32 [B, P]  user attribute indices; 0 unknown. P may be 0
    fold     int8 [B]      fold of the user, where targets are learned; None where all is told
    values   float32 [E]   what the event was worth; None: nothing is known of it
    """

    offsets: Offsets
    items: Ints
    types: Ints
    at: Floats
    now: Floats
    profile: Ints
    fold: NDArray[np.int8] | None = None
    values: Floats | None = None

    def __len__(self) -> int:
        return len(self.now)

    @property
    def row(self) -> NDArray[np.int64]:
        """int64 [E]: the user of each event."""
        if len(self) == 1:
            return np.zeros(len(self.items), np.int64)
        return np.arange(len(self), dtype=np.int64).repeat(np.diff(self.offsets))


@dataclass(frozen=True)
class Targets:
    """CSR form: what happened next. items int32 [T] may repeat; offsets int64 [B + 1].

    For training, None where nobody asks for them: types int32 [T], values float32 [T], event-type
    indices and what the events were worth; at float32 [T], when they were, on the window axis.
    """

    offsets: Offsets
    items: Ints
    types: Ints | None = None
    values: Floats | None = None
    at: Floats | None = None


class Scorer(Protocol):
    """Anything that ranks all items for histories: the model and every baseline."""

    name: str

    def top_k(
        self, histories: Histories, k: int, *, exclude_seen: bool = False
    ) -> tuple[Ints, Floats]:
        """Best k items of each history, best first: items int32 [B, k], scores float32 [B, k].

        Where fewer than k items can be ranked, the tail is item 0 with score -inf.
        Ties are broken by the smaller item index, so that the same input gives the same slate.
        """
        ...
