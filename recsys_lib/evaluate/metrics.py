"""Ranking metrics of many requests at once. All items are ranked; nothing is sampled.

For a request with the distinct targets G and the best k items R:

precision@k   |R & G| / k
recall@k      |R & G| / |G|
request_f1@k  harmonic mean of the two, per request
ndcg@k        binary gains, ideal list of min(k, |G|) hits (Jarvelin and Kekalainen 2002)
hit@k         1 when anything was hit
mrr@k         1 / rank of the first hit, 0 when there is none

`f1@k`, the headline, is the harmonic mean of MEAN precision and MEAN recall (see `f1_of_means`):
it exists for a group of requests only, so it is made where means are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.histories import Ints, Targets

KINDS = ("precision", "recall", "request_f1", "ndcg", "hit", "mrr")
NEW = "new:"  # prefix of the same metrics among items that are new to the user

Doubles = NDArray[np.float64]


def metric_names(ks: Iterable[int]) -> list[str]:
    """`kind@k`, in the order in which `ranking_metrics` returns them."""
    return [f"{kind}@{k}" for k in ks for kind in KINDS]


def ranking_metrics(ranked: Ints, targets: Targets, ks: Iterable[int]) -> dict[str, Doubles]:
    """Every metric of every request: float64 [B].

    `ranked` is int32 [B, K], best first; a k above K reads the missing places as empty. Item 0
    is an empty place, and never a target. Repeats count once, in `ranked` and in `targets`.
    A request without targets has 0 everywhere: leave it out before taking means.
    """
    hits = hit_matrix(ranked, targets).astype(np.float64)  # [B, K]
    wanted = np.diff(distinct(targets).offsets).astype(np.float64)  # [B]
    places = np.arange(hits.shape[1])
    discounts = 1.0 / np.log2(places + 2.0)
    out: dict[str, Doubles] = {}
    for k in ks:
        top = hits[:, :k]
        found = top.sum(axis=1)
        precision = found / k
        recall = _ratio(found, wanted)
        ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))])
        first = np.where(found > 0, top.argmax(axis=1) + 1.0, np.inf) if top.size else np.inf
        out[f"precision@{k}"] = precision
        out[f"recall@{k}"] = recall
        out[f"request_f1@{k}"] = _ratio(2.0 * precision * recall, precision + recall)
        out[f"ndcg@{k}"] = _ratio(top @ discounts[:k], ideal[np.minimum(wanted, k).astype(int)])
        out[f"hit@{k}"] = (found > 0).astype(np.float64)
        out[f"mrr@{k}"] = np.zeros(len(found)) + 1.0 / first
    return out


def hit_matrix(ranked: Ints, targets: Targets) -> NDArray[np.bool_]:
    """bool [B, K]: the place holds a target that no better place held already."""
    goals = distinct(targets)
    span = int(max(ranked.max(initial=0), goals.items.max(initial=0))) + 1
    rows = np.arange(len(ranked), dtype=np.int64)[:, None]
    keys = rows * span + ranked
    goal_rows = np.repeat(np.arange(len(goals.offsets) - 1), np.diff(goals.offsets))
    known = np.isin(keys, goal_rows * span + goals.items) & (ranked > 0)
    return known & ~_repeated(ranked)


def distinct(targets: Targets) -> Targets:
    """The targets as sets: sorted, without repeats and without item 0."""
    size = len(targets.offsets) - 1
    rows = np.repeat(np.arange(size, dtype=np.int64), np.diff(targets.offsets))
    span = int(targets.items.max(initial=0)) + 1
    keys = np.unique((rows * span + targets.items)[targets.items > 0])
    offsets = np.searchsorted(keys, np.arange(size + 1, dtype=np.int64) * span)
    return Targets(offsets.astype(np.int64), (keys % span).astype(np.int32))


def f1_of_means(means: Mapping[str, Doubles]) -> dict[str, Doubles]:
    """`f1@k` (and `new:f1@k`) for every pair of `precision@k` and `recall@k` in `means`."""
    out: dict[str, Doubles] = {}
    for name, precision in means.items():
        if "precision@" in name:
            recall = means[name.replace("precision@", "recall@")]
            score = _ratio(2.0 * precision * recall, precision + recall)
            out[name.replace("precision@", "f1@")] = np.where(np.isnan(precision), np.nan, score)
    return out


def _repeated(ranked: Ints) -> NDArray[np.bool_]:
    """bool [B, K]: the same item stands at a better place of the same row."""
    order = np.argsort(ranked, axis=1, kind="stable")
    ordered = np.take_along_axis(ranked, order, axis=1)
    again = np.zeros_like(ranked, dtype=np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    out = np.zeros_like(again)
    np.put_along_axis(out, order, again, axis=1)
    return out


def _ratio(above: Doubles, below: Doubles) -> Doubles:
    """0 where `below` is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
