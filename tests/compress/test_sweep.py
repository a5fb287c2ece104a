from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys_lib.compress.sweep import NEVER, Measured, chosen, shapes, timed
from recsys_lib.model.histories import Floats, Histories, Ints
from recsys_lib.settings import CompressSettings
from recsys_lib.types import Estimate
from tests.model.tiny import histories_of

SETTINGS = CompressSettings(ann_items=100)
PLAIN = Measured("plain", 0.010, 0.02, 1000, 0.2, 0.3, 0.02, Estimate(0.0, 0.0, 0.0))


def form(name: str, size: int, low: float, value: float, high: float) -> Measured:
    return replace(PLAIN, name=name, size=size, loss=Estimate(value, low, high))


def test_the_first_form_is_the_plain_one_and_of_small_shops_nothing_is_estimated() -> None:
    found = shapes(SETTINGS, [], items=50)
    assert (found[0].settings.bits, found[0].settings.encoder_bits) == (32, 32)
    assert {shape.settings.ann_items for shape in found} == {NEVER}


def test_every_width_comes_in_every_form_by_a_name_of_its_own() -> None:
    found = shapes(SETTINGS, [0.5, 0.25], items=500)
    assert [shape.share for shape in found] == [1.0] * 4 + [0.5] * 4 + [0.25] * 4
    assert len({shape.name for shape in found}) == len(found)
    assert {shape.settings.ann_items for shape in found} == {NEVER, 100}


def test_the_smallest_form_within_the_floor_is_chosen() -> None:
    good, less = form("8 bits", 300, -0.001, 0.002, 0.004), form("half", 200, 0.0, 0.006, 0.009)
    poor = form("tiny", 50, 0.01, 0.02, 0.03)
    best, why = chosen([PLAIN, good, less, poor], floor=0.01)
    assert best is less
    assert "half: the smallest of 3 forms" in why
    assert "20% of the bytes" in why


def test_a_form_that_may_lose_more_than_the_floor_is_not_chosen_however_it_looks() -> None:
    unsure = form("unsure", 10, -0.05, 0.0, 0.05)
    best, why = chosen([PLAIN, unsure], floor=0.01)
    assert best is PLAIN
    assert "every smaller form may lose more" in why


class Counting:
    """A scorer that only counts its calls."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self._calls = name, calls

    def top_k(
        self, histories: Histories, k: int, *, exclude_seen: bool = False
    ) -> tuple[Ints, Floats]:
        assert len(histories) == 1
        self._calls.append(self.name)
        return np.zeros((1, k), np.int32), np.zeros((1, k), np.float32)


@pytest.mark.parametrize("count", [1, 7])
def test_forms_answer_by_turns(count: int) -> None:
    calls: list[str] = []
    scorers = [Counting("a", calls), Counting("b", calls)]
    times = timed(scorers, histories_of([(1, 1.0)], [(2, 2.0)]), count, 3)
    assert [len(mine) for mine in times] == [count, count]
    assert calls[-2 * count :] == ["a", "b"] * count
