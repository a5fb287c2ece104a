"""Numbers of windows that cannot be right: windows are closed one by one, so one such number would
close all that lie between."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

FAR = 10_000  # windows without a row, which no log has


def within_reach(have: list[int], *, alone: int) -> list[int]:
    """Of windows in order those before a gap that no log has, and without the last one where that
    stands `alone` by so many: one wrong number would close all that lie between."""
    for place, (one, other) in enumerate(pairwise(have), start=1):
        least = min(alone, FAR) if place + 1 == len(have) else FAR
        if other - one >= least:
            return have[:place]
    return have


def left_out(near: Sequence[int], have: Sequence[int]) -> str:
    """What the user is told of windows that are not within reach."""
    return (
        f"window {have[len(near)]} is {have[len(near)] - near[-1]} windows after the one before it "
        f"that has rows, {near[-1]}: an event with a wrong number? It is left out until others are "
        "near it; name what is wrong in the mapping's rejects"
    )
