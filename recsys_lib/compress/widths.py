"""How wide the blocks of a network are, and what is to be left of them. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Widths = tuple[tuple[int, ...], tuple[int, ...]]
"""(heads, neurons) of every block."""


def widths(spec: Mapping[str, Any]) -> Widths:
    """Of a network whose `Spec` is given by name."""
    blocks = spec["blocks"]
    heads = tuple(spec.get("block_heads") or [spec["heads"]] * blocks)
    return heads, tuple(spec.get("block_neurons") or [spec["feed_forward_size"]] * blocks)


def target(spec: Mapping[str, Any], heads: float, neurons: float) -> Widths:
    """What these shares of the widest form come to: at least one, never more than there are."""
    have_heads, have_neurons = widths(spec)
    most_heads = max(1, round(heads * spec["heads"]))
    most_neurons = max(1, round(neurons * spec["feed_forward_size"]))
    return (
        tuple(min(have, most_heads) for have in have_heads),
        tuple(min(have, most_neurons) for have in have_neurons),
    )


def shares(heads: float, neurons: float, steps: int) -> list[tuple[float, float]]:
    """Shares to keep after each of `steps`: each step removes the same part of what is left."""
    parts = [step / steps for step in range(1, steps + 1)]
    return [(float(heads**part), float(neurons**part)) for part in parts]
