"""A shop with few events is learned without forgetting what is known before any lesson."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_lib.evaluate.baselines import RecencyFrequency
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.histories import Histories, Scorer, Targets
from recsys_lib.model.requests import requests
from recsys_lib.model.scorer import ModelScorer
from recsys_lib.settings import ModelSettings, TrainSettings
from tests.model.tiny import Event, sequences_of
from tests.train.conftest import learn
from tests.train.shop import Shop

USERS, ITEMS, LEARNED, EXAM = 150, 200, 4, 7
K = 5


def habits() -> list[list[Event]]:
    """Of each user: in every window four items, half of them favourites, half what all like."""
    random = np.random.default_rng(3)
    rows: list[list[Event]] = []
    for _ in range(USERS):
        favourites = random.permutation(ITEMS)[:10]
        events = []
        for window in range(EXAM + 1):
            own = random.choice(favourites, 2, replace=False)
            liked = (random.random(2) ** 3 * ITEMS).astype(int)
            events += [(int(i) + 1, window + n / 8) for n, i in enumerate([*own, *liked])]
        rows.append(events)
    return rows


def asked(rows: list[list[Event]], window: int) -> tuple[Histories, Targets]:
    known = [sum(at < window for _, at in row) for row in rows]
    until = [[event for event in row if event[1] < window + 1] for row in rows]
    histories, targets, _ = requests(sequences_of(*until, known=known), "next_window")
    return histories, targets


def precision(scorer: Scorer, histories: Histories, targets: Targets) -> float:
    items, _ = scorer.top_k(histories, K)
    wanted = np.split(targets.items, targets.offsets[1:-1])
    return float(
        np.mean([np.isin(row, told).mean() for row, told in zip(items, wanted, strict=True)])
    )


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The first model of four windows, by the settings that a user begins with."""
    root = tmp_path_factory.mktemp("small")
    shop = Shop(root)
    rows = [[event for event in row if event[1] < LEARNED] for row in habits()]
    shop.land(LEARNED - 1, rows, ITEMS)
    lesson = shop.lesson(
        (0, LEARNED - 1),
        root / "model",
        task="next_window",
        model=ModelSettings(),
        train=TrainSettings(ranks=1),
    )
    return learn(lesson).bundle


@pytest.mark.parametrize("window", [LEARNED, EXAM])
def test_a_first_model_of_few_events_ranks_about_as_well_as_recency_weighted_frequency(
    learned: Bundle, window: int
) -> None:
    """Also of longer pasts than any that it has learned from: a gate that only learns how much is
    copied on average ends at .89 and .67 of it."""
    histories, targets = asked(habits(), window)
    popular = np.bincount(histories.items, minlength=ITEMS + 1).astype(np.float64)
    simple = precision(RecencyFrequency(popular), histories, targets)
    assert precision(ModelScorer(learned), histories, targets) > 0.92 * simple
