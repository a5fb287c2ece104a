from __future__ import annotations

import numpy as np
import pytest

from recsys_lib.evaluate.gate import composite, judge
from recsys_lib.evaluate.intervals import ALL, Replicates
from recsys_lib.settings import GateSettings

SETTINGS = GateSettings(weights={"ndcg@10": 0.5, "f1@10": 0.5}, min_users=20, min_slice_users=50)
NOISE = np.concatenate([[0.0], np.random.default_rng(3).normal(0, 0.01, 200)])


def part(
    level: float,
    *,
    users: int = 500,
    own_noise: float = 0.0,
    new: float | None = None,
    name: str = ALL,
) -> Replicates:
    """Replicates around `level` that share NOISE, plus `own_noise` that a pair does not share."""
    values = level + NOISE + own_noise * NOISE[::-1]
    means = {"ndcg@10": values, "f1@10": values}
    if new is not None:
        means |= {"new:ndcg@10": 0 * NOISE + new, "new:f1@10": 0 * NOISE + new}
    return Replicates(7, "x", name, users, users, users, means)


def test_first_version_is_promoted_because_there_is_no_champion() -> None:
    verdict = judge({}, None, SETTINGS)
    assert verdict.promote
    assert "no champion yet" in verdict.reasons[0]


def test_proven_gain_is_promoted_with_its_interval() -> None:
    verdict = judge({ALL: part(0.22)}, {ALL: part(0.2)}, SETTINGS)
    assert verdict.promote
    assert verdict.difference is not None
    assert verdict.difference.low > 0
    assert "0.2200 against 0.2000 (+10.0%" in verdict.reasons[0]
    assert verdict.reasons[-1] == "promoted"


def test_gain_inside_the_noise_is_held() -> None:
    verdict = judge({ALL: part(0.201, own_noise=1.0)}, {ALL: part(0.2)}, SETTINGS)
    assert not verdict.promote
    assert verdict.reasons[0].startswith("not proven better")


def test_noise_that_both_share_does_not_hide_a_small_gain() -> None:
    assert judge({ALL: part(0.201)}, {ALL: part(0.2)}, SETTINGS).promote


def test_gain_below_min_gain_is_held() -> None:
    asked = SETTINGS.model_copy(update={"min_gain": 0.02})
    assert not judge({ALL: part(0.202)}, {ALL: part(0.2)}, asked).promote


@pytest.mark.parametrize(
    ("ours", "promoted", "told"),
    [(0.22, True, "better"), (0.199, True, "good enough"), (0.19, False, "not proven good enough")],
)
def test_a_smaller_model_may_lose_a_little(ours: float, promoted: bool, told: str) -> None:
    verdict = judge({ALL: part(ours)}, {ALL: part(0.2)}, SETTINGS, may_lose=0.01)
    assert verdict.promote == promoted
    assert verdict.reasons[0].startswith(f"{told} on 500 users")
    assert "needed more than -1.0%, being smaller)" in verdict.reasons[0]


def test_equal_model_is_held() -> None:
    assert not judge({ALL: part(0.2)}, {ALL: part(0.2)}, SETTINGS).promote


def test_large_loss_on_a_slice_vetoes_a_gain() -> None:
    ours = {ALL: part(0.25), "heavy": part(0.15, name="heavy")}
    theirs = {ALL: part(0.2), "heavy": part(0.2, name="heavy")}
    verdict = judge(ours, theirs, SETTINGS)
    assert not verdict.promote
    assert "slice heavy loses: -25.0% on 500 users (floor -10.0%)" in verdict.reasons


def test_slice_with_few_users_is_not_judged() -> None:
    ours = {ALL: part(0.25), "short": part(0.1, users=49, name="short")}
    theirs = {ALL: part(0.2), "short": part(0.2, users=49, name="short")}
    assert judge(ours, theirs, SETTINGS).promote


def test_loss_on_items_new_to_the_user_vetoes_a_gain() -> None:
    verdict = judge({ALL: part(0.25, new=0.01)}, {ALL: part(0.2, new=0.02)}, SETTINGS)
    assert not verdict.promote
    assert any(reason.startswith("slice new items loses: -50.0%") for reason in verdict.reasons)


@pytest.mark.parametrize("other", ["novelty@10", "new:f1@10"])
def test_new_items_are_judged_whatever_else_the_gate_weighs(other: str) -> None:
    asked = SETTINGS.model_copy(update={"weights": {"ndcg@10": 0.5, other: 0.5}})
    ours, theirs = part(0.25, new=0.01), part(0.2, new=0.02)
    for one in (ours, theirs):
        one.means["novelty@10"] = 9.0 + NOISE
    verdict = judge({ALL: ours}, {ALL: theirs}, asked)
    assert not verdict.promote
    assert any(reason.startswith("slice new items loses: -50.0%") for reason in verdict.reasons)


def test_too_few_users_promote_nothing() -> None:
    verdict = judge({ALL: part(0.9, users=19)}, {ALL: part(0.1, users=19)}, SETTINGS)
    assert not verdict.promote
    assert "gate.min_users is 20, judged were 19" in verdict.reasons[0]


def test_window_nobody_was_judged_on_promotes_nothing() -> None:
    assert not judge({}, {}, SETTINGS).promote


def test_replicates_without_a_request_are_left_out() -> None:
    values = np.concatenate([[0.3], np.full(50, np.nan), np.full(50, 0.3)])
    ours = Replicates(7, "x", ALL, 30, 0, 30, {"ndcg@10": values, "f1@10": values})
    theirs = Replicates(7, "x", ALL, 30, 0, 30, {"ndcg@10": values / 2, "f1@10": values / 2})
    assert judge({ALL: ours}, {ALL: theirs}, SETTINGS).promote


def test_composite_weighs_each_metric() -> None:
    means = {"a": np.array([1.0, 2.0]), "b": np.array([10.0, 20.0])}
    assert composite(means, {"a": 0.5, "b": 0.1}).tolist() == [1.5, 3.0]


def test_a_candidate_that_learned_a_strange_increment_is_refused_however_good_it_looks() -> None:
    better, champion = {ALL: part(0.3)}, {ALL: part(0.2)}
    assert judge(better, champion, SETTINGS).promote
    verdict = judge(better, champion, SETTINGS, ["increment 9: 90 % are one user's"])
    assert not verdict.promote
    assert "increment 9: 90 % are one user's" in verdict.reasons
    assert verdict.reasons[-1] == "the champion stays"
