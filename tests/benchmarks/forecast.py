"""A model of the all-reduce: how much of the time a rank of many learns.

A message of S bytes takes 2 (N - 1) / N S / speed in a ring, and a latency for each of the
2 log2 N rounds of a tree (NCCL chooses such ones for small messages). A step sends one message of
all gradients, a short one of the norm, and one of row numbers for each bundle of tables of which
only some rows are sent. Nothing of it is hidden behind the computation,
which is the worst case. The rows that N ranks look up together grow as from one rank to two: by the
share that is not common to both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys_lib.train.reduce import Rows, best_way, bytes_of


@dataclass(frozen=True)
class Network:
    """`latency`: seconds of a round, `speed`: bytes a second that a rank sends."""

    latency: float
    speed: float


def fitted(latency: float, seconds: Mapping[int, float]) -> Network:
    """By all-reduces between two ranks: a round is half of the smallest; speed by a line through
    the others."""
    sizes = np.array(list(seconds), float)
    slope, _ = np.polyfit(sizes, np.array(list(seconds.values())), 1)
    return Network(latency / 2, float(1 / slope))


def forecast(step: float, parts: Mapping[str, Any], ranks: int, network: Network) -> float:
    """Efficiency of `ranks` ranks, where one alone takes `step` seconds."""
    ring = 2 * (ranks - 1) / ranks
    rows = [grown(found, ranks) for found in parts["tables"].values()]
    ways = [best_way(found, ranks) for found in rows]
    sent = ring * parts["dense"]
    sent += sum(bytes_of(way, found, ranks) for way, found in zip(ways, rows, strict=True))
    messages = 2 + ways.count("unique")
    rounds = 2 * max(1.0, math.log2(ranks)) * messages
    return step / (step + rounds * network.latency + sent / network.speed)


def grown(rows: Rows, ranks: int) -> Rows:
    """What so many ranks look up, by what two did: each adds as many rows as the second has."""
    more = rows.union - rows.own
    return replace(rows, union=min(rows.table, rows.own + (ranks - 1) * more))
