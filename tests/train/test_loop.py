from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys_lib.compress.shrink import shortened, shrunk
from recsys_lib.compress.widths import Shares
from recsys_lib.errors import RanksError
from recsys_lib.evaluate.baselines import Popularity
from recsys_lib.model.bundle import table_rows
from recsys_lib.model.scorer import ModelScorer
from recsys_lib.model.stats import POPULARITY
from recsys_lib.train import loop, masks
from tests.train.conftest import PRUNE, Learned, learn
from tests.train.shop import MODEL, RING, TRAIN, Shop, exam, hit_rate, walks

SHORT = TRAIN.model_copy(update={"epochs": 0.5, "increment_epochs": 0.5})


def of_popularity(ring: int) -> float:
    return hit_rate(Popularity(np.ones(ring + 1)), ring)


def test_the_loss_of_a_first_model_goes_down(first: Learned) -> None:
    losses = [loss for _, loss in first.summary["loss"]]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_a_first_model_finds_what_follows_what(first: Learned) -> None:
    assert hit_rate(ModelScorer(first.bundle), RING) > 0.9
    assert of_popularity(RING) < 0.3


def test_what_is_the_same_for_all_items_gets_hardly_any_weight(first: Learned) -> None:
    """All twelve were first seen in one window: their newness tells nothing."""
    weights = np.abs(first.bundle.arrays["popularity/kernel"]).mean(0)
    assert weights[POPULARITY.index("newness")] < 0.3 * weights[POPULARITY.index("log_share")]


def test_the_summary_counts_examples_steps_and_bytes(first: Learned) -> None:
    summary = first.summary
    assert summary["examples"] == 3 * 40 * 3
    assert summary["steps"] == -(-360 * 12 // 32)
    assert [step for step, _ in summary["loss"]][-1] == summary["steps"] - 1
    assert (summary["ranks"], summary["sparsity"]) == (1, {})
    assert summary["bytes"] == sum(f.stat().st_size for f in Path(first.lesson.folder).iterdir())
    assert summary["parameters"] == sum(array.size for array in first.bundle.arrays.values())


def test_the_bundle_remembers_what_it_learned_and_from_what(first: Learned) -> None:
    bundle = first.bundle
    assert (bundle.learned, bundle.task, bundle.targets) == (2, "next_item", ("buy",))
    assert bundle.lineage["mapping"] == "ring"
    assert bundle.catalog.ids.tolist()[1:3] == ["i1", "i2"]
    assert bundle.optimizer["step"] == first.summary["steps"]


def test_an_increment_learns_new_items_and_keeps_the_old_ones(
    first: Learned, second: Learned
) -> None:
    bundle = second.bundle
    assert bundle.catalog.items == RING + 2
    stale = hit_rate(ModelScorer(first.bundle, bundle.catalog), RING + 2)
    fresh = hit_rate(ModelScorer(bundle), RING + 2)
    assert fresh > max(stale, 0.8)


def test_every_table_has_grown_with_the_vocabulary(second: Learned) -> None:
    bundle = second.bundle
    rows = table_rows(bundle.spec)
    for name, array in bundle.arrays.items():
        assert len(array) == rows.get(name.split("/")[0], len(array)), name
        slot = bundle.optimizer[f"{name}|m"]
        assert slot.shape == array.shape


def test_a_model_learns_a_shop_that_is_larger_than_its_tables(shop: Shop, tmp_path: Path) -> None:
    """Ten of twelve items have rows of their own, then ten of fourteen; the others share three."""
    model = MODEL.model_copy(update={"own_items": 10, "shared_rows": 3})
    one = learn(shop.lesson((0, 2), tmp_path / "one", model=model))
    made = shop.lesson((3, 3), tmp_path / "two", model=model, parent=one.lesson.folder)
    two = learn(replace(made, rehearse=(0, 2), prune=PRUNE))
    for learned, items in ((one, RING), (two, RING + 2)):
        bundle = learned.bundle
        assert bundle.catalog.items == items
        assert len(bundle.arrays["items/embeddings"]) == 1 + 10 + 3
        assert hit_rate(ModelScorer(bundle), items) > 0.8


def test_dense_layers_may_multiply_in_half_precision(shop: Shop, tmp_path: Path) -> None:
    half = TRAIN.model_copy(update={"precision": "bfloat16"})
    one = learn(shop.lesson((0, 2), tmp_path / "one", train=half))
    made = shop.lesson((3, 3), tmp_path / "two", train=half, parent=one.lesson.folder)
    two = learn(replace(made, rehearse=(0, 2), prune=PRUNE))
    assert hit_rate(ModelScorer(one.bundle), RING) > 0.9
    assert hit_rate(ModelScorer(two.bundle), RING + 2) > 0.5
    assert {array.dtype.name for array in two.bundle.arrays.values()} == {"float32"}
    assert two.summary["sparsity"]["total"] == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_what_targets_are_worth_is_learned_where_it_is_set(tmp_path: Path, weight: float) -> None:
    shop = Shop(tmp_path)
    shop.land(0, walks(0, RING), RING, worth=math.e - 1)
    made = shop.lesson((0, 0), tmp_path / "model")
    train = made.train.model_copy(update={"value_weight": weight, "epochs": 30.0})
    bundle = learn(replace(made, train=train)).bundle
    histories, _ = exam(RING)
    told = ModelScorer(bundle).log_values(replace(histories, values=None))
    assert told == pytest.approx(np.full(len(told), weight), abs=0.2)


def test_an_increment_starts_where_its_parent_ended(shop: Shop, first: Learned) -> None:
    folder = Path(first.lesson.folder).with_name("resting")
    resting = SHORT.model_copy(update={"increment_learning_rate": 1e-12})
    lesson = shop.lesson((3, 3), folder, parent=first.lesson.folder, train=resting)
    after, before = learn(lesson), first.bundle
    for name, array in before.arrays.items():
        np.testing.assert_allclose(after.bundle.arrays[name][: len(array)], array, atol=1e-7)
    assert after.bundle.optimizer["step"] == before.optimizer["step"] + after.summary["steps"]


def test_a_fast_increment_ends_half_way_from_its_parent_and_is_pruned_all_the_same(
    shop: Shop, first: Learned, tmp_path: Path
) -> None:
    fast = {"increment_epochs": 1.0, "increment_rate_steps": 1000, "increment_learning_rate": 1e-3}

    def learned(share: float) -> Learned:
        train = TRAIN.model_copy(update={**fast, "increment_share": share})
        made = shop.lesson((3, 3), tmp_path / str(share), train=train, prune=PRUNE)
        return learn(replace(made, parent=first.lesson.folder, rehearse=(0, 2)))

    whole, half = learned(1.0), learned(0.5)
    old = first.bundle.grown(whole.bundle.catalog).arrays
    for name, array in whole.bundle.arrays.items():
        middle = np.where(array == 0, 0, (old[name] + array) / 2)
        assert half.bundle.arrays[name] == pytest.approx(middle, abs=1e-6), name
    assert half.summary["sparsity"] == whole.summary["sparsity"]
    assert half.summary["sparsity"]["total"] > 0.5
    for name, slot in whole.bundle.optimizer.items():
        assert np.array_equal(half.bundle.optimizer[name], slot), name


def test_rows_of_items_outside_an_increment_stay_to_the_bit(shop: Shop, first: Learned) -> None:
    folder = Path(first.lesson.folder).with_name("narrow")
    change = {"increment_epochs": 0.1, "full_softmax_items": 0, "negatives": 1}
    few = TRAIN.model_copy(update=change)  # one step: four items and one negative
    lesson = shop.lesson((4, 4), folder, parent=first.lesson.folder, train=few)
    before, after = first.bundle, learn(lesson).bundle
    assert before.optimizer["items/embeddings|m"][1:].any(axis=1).all()  # Adam would drift
    old = before.arrays["items/embeddings"]
    moved = np.flatnonzero((after.arrays["items/embeddings"][: len(old)] != old).any(axis=1))
    assert {1, 2, 3, 4} <= set(moved.tolist())
    assert len(moved) <= 5


def test_the_same_seed_gives_equal_weights_and_another_seed_others(
    shop: Shop, tmp_path: Path
) -> None:
    def weights(name: str, seed: int) -> dict[str, np.ndarray]:
        lesson = shop.lesson((0, 2), tmp_path / name, train=SHORT, seed=seed)
        return learn(lesson).bundle.arrays

    one, same, other = weights("one", 7), weights("same", 7), weights("other", 8)
    for name, array in one.items():
        np.testing.assert_array_equal(array, same[name])
    assert (one["items/embeddings"] != other["items/embeddings"]).any()


def test_an_increment_without_an_example_says_so_and_writes_nothing(
    tmp_path: Path, first: Learned
) -> None:
    shop = Shop(tmp_path / "lake")
    shop.land(0, [[(1, 0.0)], [(2, 0.5)]], items=2)
    summary = loop.learn_increment(shop.lesson((0, 0), tmp_path / "model"))
    assert summary == {"examples": 0}
    assert not (tmp_path / "model").exists()


def test_pruning_reaches_its_sparsity_and_the_saved_weights_are_zeros(second: Learned) -> None:
    summary, arrays = second.summary, second.bundle.arrays
    assert summary["sparsity"]["total"] == pytest.approx(PRUNE.final_sparsity, abs=0.02)
    for name, share in summary["sparsity"].items():
        if name != "total":
            assert (arrays[name] == 0).mean() == share
            assert share == pytest.approx(PRUNE.final_sparsity, abs=0.05)
    assert second.bundle.lineage["sparsity"] == summary["sparsity"]["total"]


def test_sparsity_rises_over_the_steps_and_never_falls(second: Learned) -> None:
    shares = [share for _, share in second.summary["sparsity_curves"]["total"]]
    assert shares[0] < 0.1
    assert (np.diff(shares) >= -1e-6).all()


def test_tables_and_single_outputs_stay_dense(second: Learned) -> None:
    arrays = second.bundle.arrays
    # Of what this shop knows: nobody has counted how people come back to its items.
    told = arrays["popularity/kernel"][:, : len(POPULARITY)]
    for array in (arrays["items/embeddings"], told):
        assert (array != 0).mean() > 0.9


def test_a_second_increment_never_falls_below_its_parents_sparsity(
    second: Learned, third: Learned
) -> None:
    shares = [share for _, share in third.summary["sparsity_curves"]["total"]]
    assert shares[-1] == pytest.approx(PRUNE.final_sparsity, abs=0.02)
    assert min(shares) > PRUNE.final_sparsity - 0.05
    assert hit_rate(ModelScorer(third.bundle), RING + 2) > of_popularity(RING + 2)


def test_a_first_model_is_never_pruned(shop: Shop, tmp_path: Path) -> None:
    lesson = shop.lesson((0, 2), tmp_path / "model", train=SHORT, prune=PRUNE)
    assert learn(lesson).summary["sparsity"] == {}


def test_momentum_instead_of_adam_learns_too(shop: Shop, tmp_path: Path) -> None:
    plain = TRAIN.model_copy(update={"optimizer": "sgd", "learning_rate": 0.05, "epochs": 3})
    learned = learn(shop.lesson((0, 2), tmp_path / "model", train=plain))
    losses = [loss for _, loss in learned.summary["loss"]]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert "items/embeddings|momentum" in learned.bundle.optimizer


def test_every_pruned_layer_has_its_curve_of_sparsity(second: Learned) -> None:
    curves = second.summary["sparsity_curves"]
    assert set(curves) == set(second.summary["sparsity"])
    for name, curve in curves.items():
        assert curve[-1][1] == pytest.approx(second.summary["sparsity"][name], abs=0.05)


def test_ranks_that_differ_in_a_mask_do_not_go_on(
    shop: Shop, first: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(first.lesson.folder).with_name("apart")
    lesson = shop.lesson((3, 3), folder, parent=first.lesson.folder, train=SHORT, prune=PRUNE)
    monkeypatch.setattr(masks, "_gathered", lambda mine: {mine, mine + 1})
    with pytest.raises(RanksError, match="masks must be equal on all"):
        learn(lesson)
    assert not folder.exists()


@pytest.fixture(scope="module")
def taught(shop: Shop, first: Learned) -> Learned:
    """The first model with half its heads, a quarter of its neurons and two events to read, and its
    lesson after."""
    small = Path(first.lesson.folder).with_name("small")
    cut = shrunk(first.bundle, Shares(heads=0.5, neurons=0.25, copy_neurons=0.5))
    shortened(cut, read_events=2, copy_items=4).save(small)
    dense, folder = first.lesson.folder, small.with_name("taught")
    return learn(shop.lesson((0, 2), folder, parent=str(small), teacher=dense))


def test_a_shrunk_model_learns_from_its_dense_teacher(taught: Learned) -> None:
    bundle = taught.bundle
    assert (bundle.spec["block_heads"], bundle.spec["block_neurons"]) == ([1], [4])
    assert bundle.arrays["block_0_query/kernel"].shape == (16, 8)
    assert bundle.arrays["near_hidden_2/kernel"].shape == (2, 2)
    assert (bundle.spec["read_events"], bundle.copy_items) == (2, 4)
    assert hit_rate(ModelScorer(bundle), RING) > 0.9


def test_the_next_increment_goes_on_from_a_shrunk_model(shop: Shop, taught: Learned) -> None:
    parent = taught.lesson.folder
    folder = Path(parent).with_name("next")
    learned = learn(shop.lesson((3, 3), folder, parent=parent, rehearse=(0, 2))).bundle
    assert learned.catalog.items == RING + 2
    assert learned.spec["block_heads"] == [1]
    assert (learned.spec["read_events"], learned.copy_items) == (2, 4)
    assert hit_rate(ModelScorer(learned), RING + 2) > 0.8


def test_the_first_rank_finishes_what_it_has_saved(shop: Shop, first: Learned) -> None:
    folder = Path(first.lesson.folder).with_name("finished")
    summary = learn(shop.lesson((0, 0), folder, train=SHORT, finish=_copied)).summary
    assert (folder / "copy.json").read_text() == (folder / "model.json").read_text()
    assert summary["bytes"] == sum(file.stat().st_size for file in folder.iterdir())


def _copied(folder: str) -> None:
    (Path(folder) / "copy.json").write_text((Path(folder) / "model.json").read_text())
