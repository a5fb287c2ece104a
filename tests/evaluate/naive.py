"""The metrics as a textbook writes them, one request at a time."""

from __future__ import annotations

import math

import numpy as np

from recsys_lib.model.histories import Histories, Targets


def naive(ranked: list[int], targets: list[int], k: int) -> dict[str, float]:
    wanted = {item for item in targets if item > 0}
    top: list[int] = []
    for item in ranked[:k]:
        top.append(item if item > 0 and item not in top else 0)
    hits = [item in wanted for item in top]
    precision = sum(hits) / k
    recall = sum(hits) / len(wanted) if wanted else 0.0
    both = precision + recall
    gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
    ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted))))
    return {
        f"precision@{k}": precision,
        f"recall@{k}": recall,
        f"request_f1@{k}": 2 * precision * recall / both if both else 0.0,
        f"ndcg@{k}": gain / ideal if ideal else 0.0,
        f"hit@{k}": float(any(hits)),
        f"mrr@{k}": 1 / (hits.index(True) + 1) if any(hits) else 0.0,
    }


def targets_of(*rows: list[int]) -> Targets:
    lengths = [len(row) for row in rows]
    flat = [item for row in rows for item in row]
    return Targets(np.cumsum([0, *lengths]).astype(np.int64), np.array(flat, dtype=np.int32))


def histories_of(*rows: list[tuple[int, float]], now: float = 10.0) -> Histories:
    """Each row is a list of (item, at), oldest first."""
    flat = [event for row in rows for event in row]
    return Histories(
        offsets=np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64),
        items=np.array([item for item, _ in flat], dtype=np.int32),
        types=np.ones(len(flat), dtype=np.int32),
        at=np.array([at for _, at in flat], dtype=np.float32),
        now=np.full(len(rows), now, dtype=np.float32),
        profile=np.zeros((len(rows), 0), dtype=np.int32),
    )
