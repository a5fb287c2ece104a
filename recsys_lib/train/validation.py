"""When a fine-tune has learned enough: its loss on decisions later than all that it learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from recsys_lib.train.feed import Batch

BATCHES = 16
"""Of a rank: what is looked at again and again stays small, and is held in memory."""

Arrays = dict[str, np.ndarray]


@dataclass
class Validation:
    """Watches the loss on `batches`, and keeps the weights that were best.

    loss      of one batch, without dropout
    mean      over all ranks, of (sum, count), so that every rank stops at the same step
    weights   copies of all variables
    every     steps between two looks; none before step `since`
    patience  looks without a better loss, after which it is enough
    """

    batches: list[Batch]
    loss: Callable[[Batch], float]
    mean: Callable[[float, float], float]
    weights: Callable[[], Arrays]
    every: int
    since: int
    patience: int
    curve: list[tuple[int, float]] = field(default_factory=list)
    best: Arrays | None = None

    def is_enough(self, step: int) -> bool:
        """Look if it is time to; whether it has become no better for too long."""
        if step < self.since or (step - self.since) % self.every:
            return False
        total = sum(self.loss(batch) for batch in self.batches)
        found = self.mean(total, float(len(self.batches)))
        if not self.curve or found < min(loss for _, loss in self.curve):
            self.best = self.weights()
        self.curve.append((step, found))
        losses = [loss for _, loss in self.curve]
        return len(losses) - 1 - int(np.argmin(losses)) >= self.patience
