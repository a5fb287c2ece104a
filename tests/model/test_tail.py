from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys_lib.errors import ModelError
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.scorer import ModelScorer
from recsys_lib.model.tail import ITEM_TABLES, NONE, OVERTAKEN, Cut, lengthened
from tests.model.tiny import catalog_of, histories_of, learned_bundle

Heat = NDArray[np.float32]


def heat_of(*taken: float) -> Heat:
    """Of items 1, 2, ... by how often each was taken lately."""
    return np.log(np.array([0.5, *taken], np.float32))


cuts = st.builds(Cut, st.integers(1, 12), st.integers(1, 5))
shops = st.lists(st.integers(1, 40).map(float), min_size=1, max_size=40)


@given(cuts, shops)
def test_a_table_ends_however_many_items_there_are(cut: Cut, taken: list[float]) -> None:
    rows = cut.rows(heat_of(*taken), None)
    if rows is None:
        assert len(taken) <= cut.own
        assert cut.size(len(taken)) == len(taken)
        return
    assert cut.size(len(taken)) == cut.own + cut.shared
    assert rows[0] == 0
    assert 1 <= rows[1:].min() <= rows[1:].max() <= cut.own + cut.shared
    own = rows[1:][rows[1:] <= cut.own]
    assert sorted(own) == list(range(1, cut.own + 1)), "each such row has one owner"


@given(cuts, shops)
def test_rows_of_their_own_go_to_what_is_taken_most(cut: Cut, taken: list[float]) -> None:
    heat = heat_of(*taken)
    rows = cut.rows(heat, None)
    if rows is not None:
        owns = rows <= cut.own
        owns[0] = False
        assert heat[owns].min() >= heat[1:][~owns[1:]].max()


@given(cuts, shops, shops)
def test_an_owner_keeps_its_row_unless_another_is_far_ahead(
    cut: Cut, before: list[float], after: list[float]
) -> None:
    after = [*after, *before[len(after) :]]  # a catalogue never shrinks
    old = cut.rows(heat_of(*before), None)
    known = lengthened(old, len(before), len(after))
    heat = heat_of(*after)
    new = cut.rows(heat, known)
    if new is None:
        return
    owned = np.flatnonzero((known > 0) & (known <= cut.own))
    lost = owned[new[owned] != known[owned]]
    assert (new[lost] > cut.own).all(), "an owner goes to the tail or stays where it is"
    heirs = np.flatnonzero(np.isin(new, known[lost]))
    assert len(heirs) == len(lost)
    if len(lost):
        assert heat[heirs].min() - heat[lost].max() > OVERTAKEN


def shop_bundle() -> Bundle:
    """Three items, all with rows of their own, of tables that end there."""
    bundle = learned_bundle(catalog_of(3, {1: 9.0, 2: 1.0, 3: 9.0}))
    spec = {**bundle.spec, "own_items": 3, "shared_rows": 2}
    slots = {"items/embeddings|m": np.ones((4, 8), np.float32), "step": np.float32(12)}
    return replace(bundle, spec=spec, optimizer=slots)


def test_items_that_came_since_have_no_row_until_the_model_learns() -> None:
    bundle = shop_bundle()
    grown = bundle.grown(catalog_of(5, {1: 9.0, 2: 1.0, 3: 9.0, 5: 99.0}))
    assert grown.catalog.rows is not None
    assert grown.catalog.rows.tolist() == [0, 1, 2, 3, NONE, NONE]
    for name, array in bundle.arrays.items():
        np.testing.assert_array_equal(grown.arrays[name], array)
    settled = grown.settled()
    assert settled.catalog.rows is not None
    assert settled.catalog.rows.tolist() == [0, 1, 4, 3, 4, 2], "the fifth has overtaken the second"
    table, before = (b.arrays["items/embeddings"] for b in (settled, bundle))
    assert len(table) == 1 + 3 + 2
    np.testing.assert_array_equal(table[[0, 1, 3]], before[[0, 1, 3]])
    assert not table[2].any(), "what the second had learned is not the fifth's"
    assert not settled.optimizer["items/embeddings|m"][2].any()


def test_an_item_that_gets_a_row_of_its_own_begins_with_what_it_has_shared() -> None:
    grown = shop_bundle().grown(catalog_of(4, {1: 9.0, 2: 1.0, 3: 9.0})).settled()
    arrays = {**grown.arrays, "items/embeddings": np.random.default_rng(0).normal(size=(6, 8))}
    learned = replace(grown, arrays=arrays)
    later = learned.grown(catalog_of(4, {1: 9.0, 2: 1.0, 3: 9.0, 4: 99.0})).settled()
    assert later.catalog.rows is not None
    assert later.catalog.rows[4] == 2
    found = later.arrays["items/embeddings"]
    np.testing.assert_array_equal(found[2], arrays["items/embeddings"][4])
    np.testing.assert_array_equal(found[4:], arrays["items/embeddings"][4:])


def test_a_model_answers_alike_from_disk_and_items_of_the_tail_are_among_its_answers(
    tmp_path: Path,
) -> None:
    bundle = shop_bundle().grown(catalog_of(8, {1: 9.0, 8: 9.0})).settled()
    bundle.save(tmp_path / "model")
    asked = histories_of([(1, 8.0), (2, 9.0)], [(8, 9.0)])
    mine, again = (
        ModelScorer(b).top_k(asked, 8) for b in (bundle, Bundle.load(tmp_path / "model"))
    )
    np.testing.assert_array_equal(mine[0], again[0])
    assert sorted(again[0][0]) == list(range(1, 9))


def test_a_shop_with_fewer_items_than_the_model_knows_is_refused() -> None:
    larger = shop_bundle().grown(catalog_of(8)).settled()
    with pytest.raises(ModelError, match="the model's 8 items, got 5: vocabularies never"):
        larger.grown(catalog_of(5))


@pytest.mark.parametrize("name", ITEM_TABLES)
def test_every_item_table_ends(name: str) -> None:
    bundle = shop_bundle().grown(catalog_of(50)).settled()
    assert len(bundle.arrays[f"{name}/embeddings"]) == 1 + 3 + 2
