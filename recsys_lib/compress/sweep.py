"""The forms in which a model can be shipped, and which of them to choose."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.histories import Histories, Scorer
from recsys_lib.model.requests import select
from recsys_lib.settings import CompressSettings
from recsys_lib.types import Estimate

NEVER = 10**9
"""As `ann_items`: the sum over all items is exact, however many there are."""
WARM = 10


@dataclass(frozen=True)
class Shape:
    """One form. `share`: what is left of the heads and neurons, 1 where nothing was removed."""

    share: float
    settings: CompressSettings

    @property
    def name(self) -> str:
        s = self.settings
        width = "wide" if self.share == 1 else f"width {self.share:g}"
        total = "exact" if s.ann_items == NEVER else "estimated"
        return f"{width}, {s.bits} bits, encoder {s.encoder_bits} bits, sum {total}"


@dataclass(frozen=True)
class Measured:
    """What a form costs, and what it loses against the first one.

    p50, p99: seconds of one answer; size: bytes; f1, ndcg: at 10; loss: of f1@10, relative to the
    first form, with its interval.
    """

    name: str
    p50: float
    p99: float
    size: int
    f1: float
    ndcg: float
    new_f1: float
    loss: Estimate


def shapes(settings: CompressSettings, shares: Sequence[float], items: int) -> list[Shape]:
    """The plain form of the network first, then what saves more and more; each width after the one
    before it. The sum over all items is never estimated where there are fewer than `ann_items`."""
    plain = settings.model_copy(update={"bits": 32, "encoder_bits": 32, "ann_items": NEVER})
    steps = [plain, plain.model_copy(update={"bits": 8})]
    if items > settings.ann_items:
        steps.append(steps[-1].model_copy(update={"ann_items": settings.ann_items}))
    steps.append(steps[-1].model_copy(update={"encoder_bits": 8}))
    return [Shape(share, step) for share in (1.0, *shares) for step in steps]


def timed(
    scorers: Sequence[Scorer], asked: Histories, count: int, k: int
) -> list[NDArray[np.float64]]:
    """Seconds of `count` single answers of each scorer, by turns, so that all meet the same mood
    of the machine."""
    one = [select(asked, np.array([i % len(asked)])) for i in range(count)]
    for scorer in scorers:
        for request in one[:WARM]:
            scorer.top_k(request, k)
    times: list[list[float]] = [[] for _ in scorers]
    for request in one:
        for mine, scorer in zip(times, scorers, strict=True):
            started = time.perf_counter()
            scorer.top_k(request, k)
            mine.append(time.perf_counter() - started)
    return [np.array(mine) for mine in times]


def chosen(found: Sequence[Measured], floor: float) -> tuple[Measured, str]:
    """The smallest form whose loss is within `floor` for sure, and why it is that one."""
    within = [form for form in found if form.loss.high <= floor] or [found[0]]
    best = min(within, key=lambda form: (form.size, form.p50))
    first = found[0]
    told = (
        f"{best.name}: the smallest of {len(within)} forms that lose no more than {floor:.1%} of "
        f"F1@10 (it loses {best.loss.value:+.2%}, at most {best.loss.high:+.2%}); "
        f"{best.size / first.size:.0%} of the bytes and {best.p50 / first.p50:.0%} of the time of "
        f"the plain form"
    )
    if best is first:
        told = f"{first.name}: every smaller form may lose more than {floor:.1%} of F1@10"
    return best, told
