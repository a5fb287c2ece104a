"""Laws that every form of a model inherits: subclass `ModelLaws` and give it a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_lib.errors import ModelError
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Histories, Scorer
from recsys_lib.model.requests import select
from recsys_lib.model.scorer import ModelScorer


class ModelLaws:
    """`bundle` is any model; `histories` are some of its users, one of them without a past."""

    def bundle(self) -> Any:
        raise NotImplementedError

    def histories(self) -> Histories:
        raise NotImplementedError

    def scorer(self, bundle: Any, catalog: Catalog | None = None) -> Scorer:
        """Opens the form that the laws are about."""
        return ModelScorer(bundle, catalog)

    def arrays(self, bundle: Any) -> dict[str, np.ndarray]:
        """What a scorer must leave as it is."""
        return dict(bundle.arrays)

    def test_a_saved_and_loaded_model_gives_equal_scores(self, tmp_path: Path) -> None:
        bundle, histories = self.bundle(), self.histories()
        bundle.save(tmp_path / "model")
        k = bundle.catalog.items
        items, scores = self.scorer(bundle).top_k(histories, k)
        again, same = self.scorer(type(bundle).load(tmp_path / "model")).top_k(histories, k)
        np.testing.assert_array_equal(items, again)
        np.testing.assert_array_equal(scores, same)

    def test_a_user_without_a_past_is_answered(self) -> None:
        histories = self.histories()
        empty = np.diff(histories.offsets) == 0
        assert empty.any(), "the law needs a user without a past"
        items, scores = self.scorer(self.bundle()).top_k(histories, 3)
        assert (items[empty] > 0).all()
        assert np.isfinite(scores[empty]).all()

    def test_an_item_that_was_never_learned_is_ranked_by_its_attributes(self) -> None:
        bundle, histories = self.bundle(), self.histories()
        shop = bundle.catalog
        like_first = self.scorer(bundle, with_new_item(shop, shop.attributes[1]))
        like_last = self.scorer(bundle, with_new_item(shop, shop.attributes[-1]))
        new, k = shop.items + 1, shop.items + 1
        found = [_score_of(scorer, histories, new, k) for scorer in (like_first, like_last)]
        assert np.isfinite(found).all()
        if (shop.attributes[1] != shop.attributes[-1]).any():
            assert (found[0] != found[1]).all()

    def test_a_new_item_takes_from_the_others_and_gives_to_none(self) -> None:
        bundle, histories = self.bundle(), self.histories()
        shop = bundle.catalog
        items, before = self.scorer(bundle).top_k(histories, shop.items)
        grown = with_new_item(shop, shop.attributes[1])
        found, after = self.scorer(bundle, grown).top_k(histories, grown.items)
        for place in range(len(histories)):
            then = dict(zip(items[place].tolist(), before[place], strict=True))
            now = dict(zip(found[place].tolist(), after[place], strict=True))
            taken = np.exp(now.pop(grown.items))
            lost = {item: np.exp(then[item]) - np.exp(now[item]) for item in then}
            assert min(lost.values()) > -1e-5
            assert sum(lost.values()) == pytest.approx(taken, abs=1e-4)

    def test_a_catalogue_of_another_shop_is_refused(self) -> None:
        bundle = self.bundle()
        ids = bundle.catalog.ids.copy()
        ids[1] = "?"
        with pytest.raises(ModelError, match=r"item 1 must be .* got '\?': this is another shop"):
            self.scorer(bundle, replace(bundle.catalog, ids=ids))

    def test_scoring_leaves_its_inputs_as_they_were(self) -> None:
        bundle, histories = self.bundle(), self.histories()
        kept = self.arrays(bundle)
        arrays = {name: array.copy() for name, array in kept.items()}
        past = {name: np.copy(value) for name, value in vars(histories).items()}
        self.scorer(bundle).top_k(histories, 3, exclude_seen=True)
        for name, array in arrays.items():
            np.testing.assert_array_equal(kept[name], array)
        for name, value in past.items():
            np.testing.assert_array_equal(getattr(histories, name), value)

    def test_the_same_question_gives_the_same_slate(self) -> None:
        bundle, histories = self.bundle(), self.histories()
        scorer = self.scorer(bundle)
        first, again = scorer.top_k(histories, 3), scorer.top_k(histories, 3)
        anew = self.scorer(bundle).top_k(histories, 3)
        for other in (again, anew):
            np.testing.assert_array_equal(first[0], other[0])
            np.testing.assert_array_equal(first[1], other[1])

    def test_a_slate_longer_than_the_catalogue_ends_in_empty_places(self) -> None:
        bundle, histories = self.bundle(), self.histories()
        count = bundle.catalog.items
        items, scores = self.scorer(bundle).top_k(histories, count + 2)
        everything = list(range(1, count + 1))
        assert [sorted(row) for row in items[:, :count].tolist()] == [everything] * len(histories)
        assert not items[:, count:].any()
        assert np.isneginf(scores[:, count:]).all()
        assert (np.diff(scores[:, :count], axis=1) <= 0).all()

    def test_what_was_seen_is_never_offered_when_it_is_excluded(self) -> None:
        bundle, histories = self.bundle(), self.histories()
        k = bundle.catalog.items
        items, scores = self.scorer(bundle).top_k(histories, k, exclude_seen=True)
        for place, row in enumerate(items.tolist()):
            past = slice(histories.offsets[place], histories.offsets[place + 1])
            seen = set(histories.items[past].tolist()) - {0}
            assert {item for item in row if item} == set(range(1, k + 1)) - seen
            assert np.isneginf(scores[place][items[place] == 0]).all()

    def test_a_user_is_answered_the_same_alone_and_in_company(self) -> None:
        scorer, histories = self.scorer(self.bundle()), self.histories()
        together = scorer.top_k(histories, 3)[0]
        for place in range(len(histories)):
            alone = select(histories, np.array([place]))
            assert scorer.top_k(alone, 3)[0].tolist() == [together[place].tolist()]


def with_new_item(shop: Catalog, attributes: np.ndarray) -> Catalog:
    """The shop with one more item of these attributes, that nobody has bought."""
    return shop.extended(["new"], attributes[None])


def _score_of(scorer: Scorer, histories: Histories, item: int, k: int) -> np.ndarray:
    items, scores = scorer.top_k(histories, k)
    return np.array(scores[items == item])
