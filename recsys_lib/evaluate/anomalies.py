"""Which increments are unlike those before them: bots, random clicks, a price in pence for pounds.

The exam tells whether a model is better; it can't tell that what it learned was poison, of which
a little always goes unnoticed. So an increment's own numbers (see `features.vitals`) are compared
with those of the windows before it: median and median absolute deviation, which a few strange
windows do not move.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from recsys_lib.settings import GateSettings

EARLIER = 26
"""Windows looked back on."""
ENOUGH = 4
"""With fewer of them nothing is judged."""
LASTING = 6
"""Strange windows in a row, after which one that is like them is usual."""
SCALE = 1.4826
"""Makes the median absolute deviation a standard deviation, of normal values."""

FLOORS = {"top_user_share": 0.02, "unfamiliar_share": 0.01, "value_shift": 0.1}
"""A smaller difference is never strange, however steady the shop was."""
WORDS = {
    "top_user_share": "{now:.1%} of its events are one user's ({usual:.1%} is usual)",
    "unfamiliar_share": "{now:.1%} of it is items that nobody took lately ({usual:.1%} is usual)",
    "value_shift": "its values are {now:+.2f} away from the last ones ({usual:+.2f} is usual), "
    "on a log scale",
}


def strange_windows(
    vitals: Iterable[Mapping[str, Any]], settings: GateSettings
) -> dict[int, list[str]]:
    """Window -> what is strange about it, for the strange ones only.

    `vitals`: rows of that table in any order. A strange window is not what later ones are
    compared with, unless LASTING of them in a row are like it: then the shop has changed.
    `gate.max_deviation` null: nothing is strange.
    """
    out: dict[int, list[str]] = {}
    if settings.max_deviation is None:
        return out
    usual: list[Mapping[str, Any]] = []
    strange: list[Mapping[str, Any]] = []  # in a row, up to now
    for row in sorted(vitals, key=lambda row: row["window"]):
        reasons = _reasons(row, usual[-EARLIER:], settings.max_deviation)
        lasting = len(strange) >= LASTING
        if reasons and lasting and not _reasons(row, strange[-LASTING:], settings.max_deviation):
            usual, reasons = strange[-LASTING:], []
        strange = [*strange, row] if reasons else []
        if reasons:
            out[row["window"]] = [f"increment {row['window']}: {reason}" for reason in reasons]
        else:
            usual.append(row)
    return out


def _reasons(row: Mapping[str, Any], before: list[Mapping[str, Any]], most: float) -> list[str]:
    out = []
    for name, words in WORDS.items():
        known = np.array([r[name] for r in before if r[name] is not None], dtype=np.float64)
        if row[name] is None or len(known) < ENOUGH:
            continue
        middle = float(np.median(known))
        spread = SCALE * float(np.median(np.abs(known - middle)))
        away = row[name] - middle
        away = abs(away) if name == "value_shift" else away
        if away > max(most * spread, FLOORS[name]):
            out.append(words.format(now=row[name], usual=middle))
    return out
