"""How wide a network is where it can shrink, and what is to be left of it. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from recsys_lib.settings import CompressSettings


class Widths(NamedTuple):
    """Attention heads and neurons of each block; neurons of each layer of the heads that rank past
    and near items."""

    heads: tuple[int, ...]
    neurons: tuple[int, ...]
    copy_neurons: int


class Shares(NamedTuple):
    """How much of the widest form stays."""

    heads: float
    neurons: float
    copy_neurons: float

    @classmethod
    def of(cls, settings: CompressSettings) -> Shares:
        return cls(settings.heads, settings.neurons, settings.copy_neurons)

    @classmethod
    def even(cls, share: float) -> Shares:
        return cls(share, share, share)

    def steps(self, count: int) -> list[Shares]:
        """What is kept after each of `count` steps: each removes the same part of what is left."""
        parts = [step / count for step in range(1, count + 1)]
        return [Shares(*(float(share**part) for share in self)) for part in parts]


def widths(spec: Mapping[str, Any]) -> Widths:
    """Of a network whose `Spec` is given by name."""
    blocks = spec["blocks"]
    return Widths(
        tuple(spec.get("block_heads") or [spec["heads"]] * blocks),
        tuple(spec.get("block_neurons") or [spec["feed_forward_size"]] * blocks),
        spec.get("copy_neurons") or spec["copy_size"],
    )


def target(spec: Mapping[str, Any], shares: Shares) -> Widths:
    """What these shares of the widest form come to: at least one, never more than there are."""
    have = widths(spec)
    heads, neurons, copy_neurons = (
        max(1, round(share * spec[size]))
        for share, size in zip(shares, ("heads", "feed_forward_size", "copy_size"), strict=True)
    )
    return Widths(
        tuple(min(width, heads) for width in have.heads),
        tuple(min(width, neurons) for width in have.neurons),
        min(have.copy_neurons, copy_neurons),
    )
