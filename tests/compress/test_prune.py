from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recsys_lib.compress.prune import DENSE, INNER, MagnitudePruner
from recsys_lib.model.network import Network
from recsys_lib.model.weights import load_arrays, named_arrays
from recsys_lib.settings import PruneSettings
from tests.model.tiny import catalog_of, spec_for

SETTINGS = PruneSettings(final_sparsity=0.5, step=0.5, begin=0.2, end=0.8, frequency=1)
SHOP = catalog_of(5)


def after(
    steps: int, pruner: MagnitudePruner, left: dict[str, np.ndarray] | None = None, start: int = 0
) -> dict[str, np.ndarray]:
    """What is saved when every layer has been called in training up to so many steps, from `start`
    on where a lesson was `left` there."""
    network = Network(spec_for(SHOP), seed=1, wrap=pruner.wrap)
    if left is not None:
        load_arrays(network, left)
        pruner.resume(network)
    for step in range(start, steps):
        pruner.at_step(network, step)
        for layer in network.layers.values():
            if hasattr(layer, "pruning_step"):
                size = layer.pruning_vars[0][0].shape[0]
                layer(tf.zeros([1, size]), training=True)
    return named_arrays(network)


def test_the_smallest_weights_are_the_ones_that_go() -> None:
    before = named_arrays(Network(spec_for(SHOP), seed=1))
    pruned = after(10, MagnitudePruner(SETTINGS, steps=10))
    for name in ("block_0_query/kernel", "user_hidden/kernel"):
        kept = pruned[name] != 0
        assert kept.mean() == pytest.approx(0.5, abs=0.01)
        np.testing.assert_array_equal(pruned[name][kept], before[name][kept])
        assert np.abs(before[name][kept]).min() >= np.abs(before[name][~kept]).max()


def test_nothing_is_pruned_before_the_schedule_begins() -> None:
    pruner = MagnitudePruner(SETTINGS, steps=10)
    assert pruner.sparsity(after(2, pruner))["block_0_query/kernel"] == 0.0
    assert 0.0 < pruner.sparsity(after(4, pruner))["block_0_query/kernel"] < 0.5


def test_what_the_parent_has_pruned_is_pruned_from_the_first_step() -> None:
    pruner = MagnitudePruner(SETTINGS, steps=10, start=0.4)
    assert pruner.sparsity(after(1, pruner))["block_0_query/kernel"] == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize(("start", "final"), [(0.0, 0.2), (0.2, 0.4), (0.4, 0.5)])
def test_an_increment_adds_only_so_many_zeros(start: float, final: float) -> None:
    small = SETTINGS.model_copy(update={"step": 0.2})
    pruner = MagnitudePruner(small, steps=10, start=start)
    found = pruner.sparsity(after(10, pruner))["block_0_query/kernel"]
    assert found == pytest.approx(final, abs=0.02)


def test_a_parent_sparser_than_wanted_does_not_break_the_schedule() -> None:
    pruner = MagnitudePruner(SETTINGS, steps=10, start=0.9)
    found = pruner.sparsity(after(10, pruner))
    assert found["block_0_query/kernel"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("left_at", [1, 5, 9])
def test_a_lesson_that_is_resumed_ends_as_sparse_as_one_that_was_not(left_at: int) -> None:
    pruner = MagnitudePruner(SETTINGS, steps=10)
    resumed = after(10, pruner, left=after(left_at, pruner), start=left_at)
    assert pruner.sparsity(resumed) == pruner.sparsity(after(10, pruner))


def test_what_a_resumed_lesson_had_pruned_is_masked_and_not_only_zero() -> None:
    pruner = MagnitudePruner(SETTINGS, steps=10)
    network = Network(spec_for(SHOP), seed=1, wrap=pruner.wrap)
    load_arrays(network, after(9, pruner))
    pruner.resume(network)
    layer = network.layers["block_0_query"]
    assert float(tf.reduce_mean(layer.pruning_vars[0][1])) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_fine_tune_of_a_few_steps_has_a_schedule(steps: int) -> None:
    after(steps, MagnitudePruner(SETTINGS, steps))


def test_tables_heads_and_single_outputs_are_left_dense_unless_asked() -> None:
    arrays = named_arrays(Network(spec_for(SHOP), seed=1))

    def counted(**asked: bool) -> set[str]:
        pruner = MagnitudePruner(SETTINGS.model_copy(update=asked), steps=10)
        return {name.split("/")[0] for name in pruner.sparsity(arrays)} - {"total"}

    assert not counted() & {*DENSE, *INNER, "items", "types", "positions"}
    assert "block_0_query" in counted()
    assert counted(heads=True) - counted() == set(INNER)
    assert "items" in counted(embeddings=True)


def test_total_sparsity_is_the_share_of_zeros_of_all_pruned_weights() -> None:
    arrays = {
        "user_out/kernel": np.array([[0.0, 1.0], [2.0, 3.0]], dtype=np.float32),
        "user_hidden/kernel": np.zeros((1, 2), dtype=np.float32),
        "user_out/bias": np.zeros(9, dtype=np.float32),
        "gate/kernel": np.zeros((9, 1), dtype=np.float32),
    }
    found = MagnitudePruner(SETTINGS, steps=10).sparsity(arrays)
    assert found == {"user_out/kernel": 0.25, "user_hidden/kernel": 1.0, "total": 0.5}


def test_two_of_every_four_inputs_go_where_the_hardware_wants_it() -> None:
    sparse = SETTINGS.model_copy(update={"pattern": "2:4"})
    kernel = after(10, MagnitudePruner(sparse, steps=10))["block_0_query/kernel"]
    zeros = (kernel == 0).reshape(len(kernel) // 4, 4, -1).sum(1)
    assert (zeros == 2).all()


def test_blocks_are_pruned_whole() -> None:
    blocks = SETTINGS.model_copy(update={"pattern": "block", "block": (2, 4)})
    kernel = after(10, MagnitudePruner(blocks, steps=10))["block_0_query/kernel"]
    rows, columns = kernel.shape
    zeros = (kernel == 0).reshape(rows // 2, 2, columns // 4, 4).sum((1, 3))
    assert set(np.unique(zeros)) == {0, 8}
