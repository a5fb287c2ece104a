"""A made shop of any size for speed alone: sessions that walk over items, few of them popular."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.model.tiny import Event
from tests.train.shop import Shop

LENGTH = 24
"""Events of a session."""


def walking_shop(root: Path, items: int, sessions: int) -> Shop:
    """Three windows, each in as many equal files as two ranks like to read."""
    shop = Shop(root.absolute())
    for window in range(3):
        shop.land(window, _walks(window, items, sessions // 3), items, files=4)
    return shop


def _walks(window: int, items: int, count: int) -> list[list[Event]]:
    random = np.random.default_rng(window)
    # Zipf's law with exponent 1, by the inverse of its distribution.
    ranks = np.exp(random.random((count, LENGTH)) * np.log(items)).astype(int).clip(1, items)
    return [
        [(int(item), window + place / (LENGTH + 1)) for place, item in enumerate(row)]
        for row in ranks
    ]
