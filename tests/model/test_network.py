from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recsys_lib.model.copies import USER_FEATURES
from recsys_lib.model.histories import Histories
from recsys_lib.model.inputs import inputs
from recsys_lib.model.network import HIDDEN, Network, Pool
from recsys_lib.model.scorer import spec_of
from recsys_lib.model.weights import load_arrays, named_arrays
from tests.model.tiny import Event, catalog_of, histories_of, shaken, spec_for

SHOP = catalog_of(attributes=[[0], [1], [1], [2], [2], [2]], profile=(2,))
STATS = SHOP.stats.values.shape[2]


def tensors(histories: Histories) -> dict[str, tf.Tensor]:
    x = inputs(histories, 8, 8, 0.9, attributes=SHOP.attributes).as_dict()
    return {name: tf.constant(value) for name, value in x.items()}


def whole_pool(network: Network) -> Pool:
    return network.pool(tf.range(SHOP.items + 1), tf.constant(SHOP.lookups))


def context_of(network: Network, *rows: list[Event]) -> np.ndarray:
    x = tensors(histories_of(*rows, profile=(1,)))
    return np.asarray(network.user_context(x, whole_pool(network)))


def test_the_same_seed_builds_the_same_network() -> None:
    spec = spec_for(SHOP)
    one, same, other = (named_arrays(Network(spec, seed)) for seed in (3, 3, 4))
    for name, array in one.items():
        np.testing.assert_array_equal(array, same[name])
    assert (one["items/embeddings"] != other["items/embeddings"]).all()


def test_untrained_copy_logits_are_the_log_of_decayed_counts() -> None:
    network = Network(spec_for(SHOP), seed=3)
    x = tensors(histories_of([(4, 8.0), (1, 9.0), (4, 9.0)], profile=(1,)))
    pool = whole_pool(network)
    stats = tf.random.normal([*x["copy_items"].shape, STATS])
    logits = network.copy_logits(x, network.user_context(x, pool), pool, stats)
    assert np.exp(logits[0]) == pytest.approx([0.9**2 + 0.9, 0.9], abs=1e-5)


def test_untrained_odds_of_copying_grow_with_the_items_that_a_user_has_had() -> None:
    network = Network(spec_for(SHOP), seed=3)
    histories = histories_of(
        [(4, 8.0)], [(4, 8.0), (1, 9.0), (4, 9.0)], [(i, 8.0) for i in range(1, 6)], profile=(1,)
    )
    x = tensors(histories)
    gate = np.exp(network.gate(x, network.user_context(x, whole_pool(network))))
    odds = gate[:, 0] / gate[:, 2]
    assert odds / odds[0] == pytest.approx(np.array([2, 3, 6]) / 2, rel=1e-5)


def test_an_untrained_gate_prefers_own_items_and_never_for_users_without_any() -> None:
    network = Network(spec_for(SHOP), seed=3)
    x = tensors(histories_of([(4, 8.0)], [], [(0, 9.0)], profile=(1,)))
    gate = np.exp(network.gate(x, network.user_context(x, whole_pool(network))))
    assert gate.sum(1) == pytest.approx(1.0)
    assert gate[0, 0] > 0.5
    assert gate[1:, 0].tolist() == [0.0, 0.0]
    assert not gate[:, 1].any(), "nothing is near where no neighbours are known"


def test_where_nobody_repeats_an_untrained_gate_hardly_copies_and_elsewhere_as_ever() -> None:
    network = Network(spec_for(SHOP), seed=3)
    x = tensors(histories_of([(4, 8.0)], profile=(1,)))

    def copied() -> float:
        context = network.user_context(x, whole_pool(network))
        return float(np.exp(network.gate(x, context))[0, 0])

    before = copied()
    network.expect_repeats(repeated=50, targets=1000)
    assert copied() == before
    network.expect_repeats(repeated=0, targets=1000)
    assert copied() < 0.002


def test_a_network_from_before_its_gate_read_the_users_features_still_loads() -> None:
    before = spec_for(SHOP, gate_user=False)
    told = {name: value for name, value in before.as_dict().items() if name != "gate_user"}
    network = Network(spec_of(told), seed=4)
    load_arrays(network, named_arrays(Network(before, seed=3)))
    assert "gate_user" not in network.layers
    x = tensors(histories_of([(4, 8.0)], profile=(1,)))
    gate = np.exp(network.gate(x, network.user_context(x, whole_pool(network))))
    assert gate[0, 0] > 0.5


def test_of_how_an_item_stands_among_its_kind_the_near_head_hears_and_the_copy_head_does_not() -> (
    None
):
    network = shaken(Network(spec_for(SHOP), seed=1))
    x = tensors(histories_of([(4, 8.0), (1, 9.0)], profile=(1,)))
    features = tf.random.normal([1, 2, network.layers["near_hidden"].kernel.shape[0]])
    told = features.shape[2] - STATS - len(USER_FEATURES) - 8 - 2
    x |= {"near_items": x["copy_items"], "near_features": features[..., :told]}
    pool = whole_pool(network)
    context = network.user_context(x, pool)
    plain = tf.random.normal([1, 2, STATS])
    moved = plain + tf.constant([0.0] * (STATS - SHOP.stats.kinds) + [1.0] * SHOP.stats.kinds)
    copied, near = (
        [head(x, context, pool, stats).numpy() for stats in (plain, moved)]
        for head in (network.copy_logits, network.near_logits)
    )
    np.testing.assert_array_equal(*copied)
    assert (near[0] != near[1]).all()


def test_an_item_is_its_id_and_its_attributes() -> None:
    network = shaken(Network(spec_for(SHOP), seed=3))
    arrays = named_arrays(network)
    nobody = {**arrays, "items/embeddings": np.zeros_like(arrays["items/embeddings"])}
    load_arrays(network, nobody)
    vectors = whole_pool(network).vectors.numpy()
    np.testing.assert_allclose(vectors[1], vectors[2])  # equal attributes
    assert np.abs(vectors[2] - vectors[3]).max() > 1e-3
    load_arrays(network, arrays)
    assert np.abs(whole_pool(network).vectors.numpy()[1] - vectors[1]).max() > 1e-3


def test_older_events_never_hear_of_later_ones() -> None:
    network = shaken(Network(spec_for(SHOP), seed=3))
    rng = np.random.default_rng(0)
    h = rng.normal(size=(1, 4, 8)).astype(np.float32)
    causal = np.where(np.tril(np.ones((4, 4))), 0.0, HIDDEN).astype(np.float32)
    late = h.copy()
    late[0, 3] += 1.0
    mask = tf.constant(causal[None, None])
    before, after = (network._block(0, tf.constant(v), mask, False).numpy() for v in (h, late))
    np.testing.assert_allclose(before[0, :3], after[0, :3], atol=1e-6)
    assert np.abs(before[0, 3] - after[0, 3]).max() > 1e-3


def test_padding_does_not_change_what_is_read() -> None:
    network = shaken(Network(spec_for(SHOP), seed=3))
    history: list[Event] = [(1, 8.0), (2, 9.0)]
    longer: list[Event] = [(3, float(at)) for at in range(1, 8)]
    alone, padded = context_of(network, history), context_of(network, history, longer)
    np.testing.assert_allclose(alone[0], padded[0], atol=1e-5)


@pytest.mark.parametrize(
    "changed",
    [[(1, 8.0), (3, 9.0)], [(1, 8.0), (2, 9.5)], [(2, 8.0), (1, 9.0)]],
    ids=["another item", "another time", "another order"],
)
def test_a_learned_network_hears_items_times_and_order(changed: list[Event]) -> None:
    network = shaken(Network(spec_for(SHOP), seed=3))
    context = context_of(network, [(1, 8.0), (2, 9.0)])
    assert np.abs(context_of(network, changed) - context).max() > 1e-3


def test_scoring_is_without_chance_and_training_is_with_dropout() -> None:
    network = shaken(Network(replace(spec_for(SHOP), dropout=0.5, id_dropout=0.5), seed=3))
    x, pool = tensors(histories_of([(1, 8.0)], profile=(1,))), whole_pool(network)
    calm = [network.user_context(x, pool).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*calm)
    assert np.abs(network.user_context(x, pool, training=True) - calm[0]).max() > 1e-3


def test_id_dropout_hides_ids_in_training_only() -> None:
    network = shaken(Network(replace(spec_for(SHOP), id_dropout=0.999999), seed=3))
    lookups = tf.constant(SHOP.lookups)
    hidden = network.pool(tf.range(6), lookups, training=True).vectors.numpy()
    np.testing.assert_allclose(hidden[1], hidden[2])
    assert np.abs(np.diff(whole_pool(network).vectors.numpy()[1:3], axis=0)).max() > 1e-3


def test_every_dense_and_table_layer_is_offered_to_the_wrap() -> None:
    offered: list[str] = []

    def note(layer: Any) -> Any:
        offered.append(layer.name)
        return layer

    network = Network(spec_for(SHOP), seed=3, wrap=note)
    with_weights = {name.split("/")[0] for name in network.variables()}
    assert with_weights - set(offered) == {"block_0_norm_1", "block_0_norm_2", "final_norm"}


def test_arrays_come_back_as_they_were_loaded() -> None:
    arrays = named_arrays(shaken(Network(spec_for(SHOP), seed=3)))
    network = Network(spec_for(SHOP), seed=9)
    load_arrays(network, arrays)
    for name, array in named_arrays(network).items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize("blocks", [0, 2])
def test_a_network_of_any_depth_answers(blocks: int) -> None:
    network = Network(replace(spec_for(SHOP), blocks=blocks), seed=3)
    assert np.isfinite(context_of(network, [(1, 9.0)], [])).all()
