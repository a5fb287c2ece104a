from __future__ import annotations

import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_lib.compress.shrink import shortened
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Histories, Scorer
from recsys_lib.model.requests import select
from recsys_lib.model.scorer import ModelScorer
from recsys_lib.model.shipped import heads
from recsys_lib.model.shipped.bundle import Shipped
from recsys_lib.model.shipped.scorer import ShippedScorer
from tests.contracts import ModelLaws, with_new_item
from tests.model.shipped.shop import EXACT, SMALL, asked, model_of, shipped, shop_of

ITEMS = 40
SHOP = shop_of(ITEMS)
BUNDLE = model_of(SHOP)
LARGE = 6000
"""Items the sum over which is estimated."""


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return shipped(BUNDLE, tmp_path_factory.mktemp("exact"), EXACT)


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("tensorflow", [False, True], ids=["LiteRT", "SavedModel"])
def test_in_32_bits_the_answers_are_those_of_the_network(
    exact: Shipped, exclude: bool, tensorflow: bool
) -> None:
    histories = asked(ITEMS)
    items, scores = ModelScorer(BUNDLE).top_k(histories, 10, exclude_seen=exclude)
    scorer = ShippedScorer(exact, tensorflow=tensorflow)
    same, near = scorer.top_k(histories, 10, exclude_seen=exclude)
    np.testing.assert_array_equal(items, same)
    np.testing.assert_allclose(scores, near, rtol=1e-3, atol=1e-3)


def test_how_many_are_answered_together_changes_no_answer(
    exact: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, histories = ShippedScorer(exact), asked(ITEMS)
    items, scores = scorer.top_k(histories, 10)
    asked_of: list[int] = []
    answer = ShippedScorer._answer

    def counted(self: ShippedScorer, part: Histories, *told: Any) -> Any:
        asked_of.append(len(part))
        return answer(self, part, *told)

    monkeypatch.setattr(ShippedScorer, "_answer", counted)
    monkeypatch.setattr(ShippedScorer, "ROOM", 3 * ITEMS)  # a shop that is large for it
    same, near = scorer.top_k(histories, 10)
    assert max(asked_of) <= 3 < len(histories)
    np.testing.assert_array_equal(items, same)
    np.testing.assert_allclose(scores, near, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_how_many_rows_are_made_together_changes_no_answer(
    exact: Shipped, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    scorer, histories = ShippedScorer(exact), asked(ITEMS)
    items, scores = scorer.top_k(histories, 10)
    monkeypatch.setattr(heads, "ROWS", rows)
    same, near = scorer.top_k(histories, 10)
    np.testing.assert_array_equal(items, same)
    np.testing.assert_allclose(scores, near, rtol=1e-4, atol=1e-5)


def test_a_model_from_before_kinds_were_compared_answers_a_shop_that_tells_of_them(
    tmp_path: Path,
) -> None:
    histories, known = asked(ITEMS), SHOP.stats.values.shape[2] - SHOP.stats.kinds
    older = replace(SHOP, stats=SHOP.stats.narrowed(known))
    bundle = model_of(older)
    told = shipped(bundle, tmp_path, EXACT)
    for before, after in (
        (ModelScorer(bundle), ModelScorer(bundle, SHOP)),
        (ShippedScorer(told), ShippedScorer(told, SHOP)),
    ):
        (items, scores), (same, near) = before.top_k(histories, 5), after.top_k(histories, 5)
        np.testing.assert_array_equal(items, same)
        # Where an array begins in memory decides how some processors add up.
        np.testing.assert_allclose(scores, near, rtol=1e-6)


def shuffled(histories: Histories, unknown: float) -> Histories:
    """Times in any order, and this share of them unknown."""
    random = np.random.default_rng(2)
    at = random.permutation(histories.at)
    return replace(histories, at=np.where(random.random(len(at)) < unknown, np.float32(np.nan), at))


def words_of_tomorrow(histories: Histories) -> Histories:
    """Every third event and every other user has a word that came after the model."""
    types, profile = histories.types.copy(), histories.profile.copy()
    types[::3], profile[::2] = 3, 3
    return replace(histories, types=types, profile=profile)


@pytest.mark.parametrize(
    "histories",
    [
        words_of_tomorrow(asked(ITEMS)),
        shuffled(asked(ITEMS), 0.0),
        shuffled(asked(ITEMS), 0.3),
        shuffled(asked(ITEMS), 1.1),
    ],
    ids=["new words", "times out of order", "some times unknown", "all times unknown"],
)
def test_what_a_model_never_saw_it_answers_as_the_network_does(
    exact: Shipped, histories: Histories
) -> None:
    grown = replace(SHOP, types=(*SHOP.types, "gift"), profile=(3,))
    items, scores = ModelScorer(BUNDLE, grown).top_k(histories, 10)
    same, near = ShippedScorer(exact, grown).top_k(histories, 10)
    np.testing.assert_array_equal(items, same)
    np.testing.assert_allclose(scores, near, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("changes", [{"blocks": 0}, {"blocks": 1}, {"blocks": 3, "heads": 1}])
def test_a_network_of_any_depth_is_shipped(tmp_path: Path, changes: dict[str, Any]) -> None:
    bundle = model_of(SHOP, **changes)
    histories = asked(ITEMS)
    found = ShippedScorer(shipped(bundle, tmp_path, EXACT)).top_k(histories, 10)[0]
    np.testing.assert_array_equal(found, ModelScorer(bundle).top_k(histories, 10)[0])


@pytest.mark.parametrize("reads", [1, 3])
def test_a_network_that_reads_few_of_the_recent_events_is_shipped(
    tmp_path: Path, reads: int
) -> None:
    bundle = shortened(BUNDLE, reads, BUNDLE.copy_items)
    histories = asked(ITEMS)
    items, scores = ModelScorer(bundle).top_k(histories, 10)
    same, near = ShippedScorer(shipped(bundle, tmp_path, EXACT)).top_k(histories, 10)
    np.testing.assert_array_equal(items, same)
    np.testing.assert_allclose(scores, near, rtol=1e-3, atol=1e-3)


def test_in_8_bits_nearly_all_answers_are_the_same(tmp_path: Path) -> None:
    histories = asked(ITEMS, 200)
    items, _ = ModelScorer(BUNDLE).top_k(histories, 10)
    found, _ = ShippedScorer(shipped(BUNDLE, tmp_path, SMALL)).top_k(histories, 10)
    alike = np.mean([len(np.intersect1d(*pair)) for pair in zip(items, found, strict=True)]) / 10
    assert alike > 0.95


@pytest.mark.parametrize("exclude", [False, True])
def test_a_large_shop_is_searched_and_little_is_missed(tmp_path: Path, exclude: bool) -> None:
    # Random weights are more or less easy to sample: several networks, on average.
    shop, histories, errors, alike = shop_of(LARGE), asked(LARGE, 100), [], []
    for seed in range(1, 7):
        bundle = model_of(shop, seed)
        items, scores = ModelScorer(bundle).top_k(histories, 10, exclude_seen=exclude)
        scan = EXACT.model_copy(update={"ann_items": LARGE - 1})
        found, near = ShippedScorer(shipped(bundle, tmp_path / str(seed), scan)).top_k(
            histories, 10, exclude_seen=exclude
        )
        pairs = zip(items, found, strict=True)
        alike.append(np.mean([len(np.intersect1d(*pair)) for pair in pairs]) / 10)
        errors.append(np.median(np.abs(scores - near)))
    assert np.mean(alike) > 0.96
    assert np.mean(errors) < 0.05


def test_of_a_shop_of_few_items_nothing_is_estimated(tmp_path: Path) -> None:
    few = EXACT.model_copy(update={"ann_items": 5})
    bundle, histories = model_of(shop_of(10)), asked(10)
    found, _ = ShippedScorer(shipped(bundle, tmp_path, few)).top_k(histories, 5)
    np.testing.assert_array_equal(found, ModelScorer(bundle).top_k(histories, 5)[0])


def test_times_the_model_knows_no_statistics_for_are_answered(exact: Shipped) -> None:
    histories = replace(asked(ITEMS), now=np.full(31, np.nan, np.float32))
    items, _ = ModelScorer(BUNDLE).top_k(histories, 5)
    np.testing.assert_array_equal(items, ShippedScorer(exact).top_k(histories, 5)[0])


def test_new_items_and_changed_attributes_need_no_export(exact: Shipped) -> None:
    histories = asked(ITEMS)
    changed = SHOP.attributes.copy()
    changed[3] = changed[3, ::-1] if changed[3, 0] != changed[3, 1] else [1, 3]
    grown = with_new_item(replace(SHOP, attributes=changed, neighbours=None), changed[5])
    items, _ = ModelScorer(BUNDLE, grown).top_k(histories, ITEMS + 1)
    found, _ = ShippedScorer(exact, grown).top_k(histories, ITEMS + 1)
    np.testing.assert_array_equal(items, found)
    assert (found == ITEMS + 1).any(1).all()


@pytest.mark.parametrize("ann_items", [10**9, 10], ids=["exact", "estimated"])
def test_items_that_come_in_between_are_scored_at_once(exact: Shipped, ann_items: int) -> None:
    histories = asked(ITEMS)
    before = ShippedScorer(replace(exact, search={"ann_items": ann_items}))
    was, _ = before.top_k(histories, ITEMS)
    after = before.with_items(["new"], SHOP.attributes[5:6])
    grown = SHOP.extended(["new"], SHOP.attributes[5:6])
    expected, _ = ModelScorer(BUNDLE, grown).top_k(histories, ITEMS + 1)
    found, _ = after.top_k(histories, ITEMS + 1)
    alike = [set(row) == set(other) for row, other in zip(expected, found, strict=True)]
    assert all(alike)
    assert (found == ITEMS + 1).any(1).all()
    np.testing.assert_array_equal(before.top_k(histories, ITEMS)[0], was)


def test_threads_that_share_a_scorer_get_their_own_answers(exact: Shipped) -> None:
    scorer, histories = ShippedScorer(exact), asked(ITEMS)
    users = [select(histories, np.array([place])) for place in range(len(histories))] * 8
    alone = [scorer.top_k(user, 10)[0].tolist() for user in users]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda user: scorer.top_k(user, 10)[0].tolist(), users))
    assert together == alone


def test_a_scorer_that_was_pickled_answers_as_before(exact: Shipped) -> None:
    scorer = ShippedScorer(exact)
    again = pickle.loads(pickle.dumps(scorer))
    np.testing.assert_array_equal(scorer.top_k(asked(ITEMS), 5)[0], again.top_k(asked(ITEMS), 5)[0])


class TestShippedModel(ModelLaws):
    def bundle(self) -> Shipped:
        with tempfile.TemporaryDirectory() as folder:
            return _held(shipped(BUNDLE, Path(folder), EXACT))

    def histories(self) -> Histories:
        return asked(ITEMS, 5)

    def scorer(self, bundle: Shipped, catalog: Catalog | None = None) -> Scorer:
        return ShippedScorer(bundle, catalog)

    def arrays(self, bundle: Shipped) -> dict[str, np.ndarray]:
        return {**bundle.weights, "vectors": bundle.vectors.values, "biases": bundle.biases}


_KEPT = tempfile.TemporaryDirectory()


def _held(found: Shipped) -> Shipped:
    """The SavedModel is copied from its folder when a bundle is saved again."""
    import shutil

    kept = Path(_KEPT.name) / "saved_model"
    shutil.copytree(found.saved, kept, dirs_exist_ok=True)
    return replace(found, saved=kept)
