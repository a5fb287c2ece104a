from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from recsys_lib.model.bundle import Bundle
from recsys_lib.model.histories import Histories
from recsys_lib.model.scorer import ModelScorer
from recsys_lib.model.stats import ItemStats
from tests.contracts import ModelLaws, with_new_item
from tests.model.tiny import bundle_of, catalog_of, histories_of, learned_bundle, untraced

ATTRIBUTES = [[0, 0], [1, 2], [1, 1], [2, 1], [2, 2], [3, 1]]
BUYERS = {1: 1.0, 2: 9.0, 3: 4.0, 5: 6.0}
NAN = float("nan")


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    with untraced():
        yield


def some_histories(profile: tuple[int, ...] = ()) -> Histories:
    return histories_of(
        [(4, 6.0), (1, 8.5), (4, 8.5)], [], [(0, 3.0), (2, 9.0)], [(3, NAN)], profile=profile
    )


class TestUntrained(ModelLaws):
    def bundle(self) -> Bundle:
        return bundle_of(catalog_of(buyers=BUYERS, attributes=ATTRIBUTES))

    def histories(self) -> Histories:
        return some_histories()


class TestLearned(ModelLaws):
    def bundle(self) -> Bundle:
        shop = catalog_of(buyers=BUYERS, attributes=ATTRIBUTES, profile=(2, 3))
        return learned_bundle(shop)

    def histories(self) -> Histories:
        return some_histories(profile=(1, 3))


class TestWithoutAttributes(ModelLaws):
    def bundle(self) -> Bundle:
        return learned_bundle(catalog_of(buyers=BUYERS), seed=4)

    def histories(self) -> Histories:
        return some_histories()


def test_an_untrained_model_ranks_own_items_by_decayed_count_then_by_popularity() -> None:
    scorer = ModelScorer(bundle_of(catalog_of(buyers=BUYERS)))
    histories = histories_of([(4, 8.0), (1, 9.0), (1, 9.5)], [])
    items, _ = scorer.top_k(histories, 5)
    assert items.tolist() == [[1, 4, 2, 5, 3], [2, 5, 3, 1, 4]]


def test_scores_of_all_items_are_the_logarithms_of_one_distribution() -> None:
    histories = some_histories()
    _, scores = ModelScorer(learned_bundle(catalog_of(buyers=BUYERS))).top_k(histories, 5)
    assert np.exp(scores).sum(1) == pytest.approx(np.ones(len(histories)), abs=1e-4)


def test_each_request_is_scored_with_the_counts_of_its_own_window() -> None:
    shop = catalog_of(items=2)
    values = np.zeros((2, 3, shop.stats.values.shape[2]), dtype=np.float32)
    values[0, 1, 0] = values[1, 2, 0] = 2.0  # item 1 sells in window 10, item 2 in window 11
    scorer = ModelScorer(bundle_of(replace(shop, stats=ItemStats(10, values))))
    histories = histories_of([], [], [])
    asked = replace(histories, now=np.array([10.0, 11.0, NAN], dtype=np.float32))
    assert scorer.top_k(asked, 2)[0].tolist() == [[1, 2], [2, 1], [2, 1]]


def test_equal_scores_go_to_the_smaller_index() -> None:
    flat = bundle_of(catalog_of(items=4))
    zero = {name: np.zeros_like(array) for name, array in flat.arrays.items()}
    items, scores = ModelScorer(replace(flat, arrays=zero)).top_k(histories_of([]), 4)
    assert len(set(scores[0].tolist())) == 1
    assert items.tolist() == [[1, 2, 3, 4]]


def test_the_compiled_graph_answers_as_its_python_does() -> None:
    bundle, histories = learned_bundle(catalog_of(buyers=BUYERS)), some_histories()
    eager = ModelScorer(bundle).top_k(histories, 4, exclude_seen=True)
    tf.config.run_functions_eagerly(False)
    graph = ModelScorer(bundle).top_k(histories, 4, exclude_seen=True)
    assert graph[0].tolist() == eager[0].tolist()
    assert np.exp(graph[1]) == pytest.approx(np.exp(eager[1]), abs=1e-5)


def test_no_request_gets_no_answer() -> None:
    items, scores = ModelScorer(bundle_of()).top_k(histories_of(), 4)
    assert items.shape == scores.shape == (0, 4)


def test_items_types_and_profiles_beyond_the_vocabulary_count_as_unknown() -> None:
    shop = catalog_of(buyers=BUYERS, profile=(2,))
    scorer = ModelScorer(learned_bundle(shop))
    strange = histories_of([(99, 9.0), (1, 9.5)], profile=(7,))
    strange = replace(strange, types=np.array([9, 1], dtype=np.int32))
    known = histories_of([(0, 9.0), (1, 9.5)], profile=(0,))
    known = replace(known, types=np.array([0, 1], dtype=np.int32))
    np.testing.assert_array_equal(scorer.top_k(strange, 5)[1], scorer.top_k(known, 5)[1])


def test_histories_without_profiles_are_scored_by_a_model_that_knows_profiles() -> None:
    scorer = ModelScorer(learned_bundle(catalog_of(buyers=BUYERS, profile=(2,))))
    bare, unknown = histories_of([(1, 9.0)]), histories_of([(1, 9.0)], profile=(0,))
    np.testing.assert_array_equal(scorer.top_k(bare, 5)[1], scorer.top_k(unknown, 5)[1])


def test_profile_and_event_type_matter_to_a_learned_model() -> None:
    scorer = ModelScorer(learned_bundle(catalog_of(profile=(2,), types=("", "view", "buy"))))
    histories = histories_of([(1, 9.0)], profile=(1,))
    scores = scorer.top_k(histories, 5)[1]
    other_user = replace(histories, profile=np.array([[2]], dtype=np.int32))
    other_type = replace(histories, types=np.array([2], dtype=np.int32))
    for changed in (other_user, other_type):
        assert np.abs(scorer.top_k(changed, 5)[1] - scores).max() > 1e-4


def test_an_older_model_in_a_larger_shop_scores_old_items_by_its_own_weights() -> None:
    shop = catalog_of(buyers=BUYERS, attributes=ATTRIBUTES)
    bundle, histories = learned_bundle(shop), some_histories()
    grown = with_new_item(shop, shop.attributes[1])
    before = ModelScorer(bundle).top_k(histories, shop.items)
    after = ModelScorer(bundle, grown).top_k(histories, grown.items)
    for place in range(len(histories)):
        old = dict(zip(*(part[place].tolist() for part in before), strict=True))
        new = dict(zip(*(part[place].tolist() for part in after), strict=True))
        # One more item takes its share of what is explored; odds of the others stay.
        del new[shop.items + 1]
        assert new.keys() == old.keys()
        own = set(histories.items[histories.row == place].tolist())
        moved = [old[item] - new[item] for item in old if item not in own]
        assert np.ptp(moved) < 1e-4
        assert min(moved) > 0
