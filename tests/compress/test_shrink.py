from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys_lib.compress.shrink import shortened, shrunk
from recsys_lib.compress.widths import Shares, target, widths
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.histories import Histories
from recsys_lib.model.inputs import inputs
from recsys_lib.model.network import Network
from recsys_lib.model.scorer import ModelScorer, spec_of
from recsys_lib.model.tensorflow import tf
from tests.contracts import ModelLaws
from tests.model.tiny import bundle_of, catalog_of, histories_of, shaken, spec_for

SHOP = catalog_of(attributes=[[0], [1], [1], [2], [2], [2]], profile=(2,))
HISTORIES = histories_of([(1, 8.0), (2, 9.0), (1, 9.5)], [], [(4, 3.0)], profile=(1,))


def wide(seed: int = 1, heads: int = 4) -> Bundle:
    spec = spec_for(SHOP, blocks=2, heads=heads, feed_forward_size=6, copy_size=4)
    made = bundle_of(SHOP, shaken(Network(spec, seed=3), seed))
    slots = {f"{name}|m": array + 1 for name, array in made.arrays.items()}
    return replace(made, optimizer={**slots, "step": np.float32(7)})


def without(
    bundle: Bundle, heads: list[int], neurons: list[int], copy_neurons: list[int]
) -> Bundle:
    """The bundle with all weights of these heads and neurons zero, wherever there are such."""
    size = spec_of(bundle.spec).size_of_head
    arrays = {name: array.copy() for name, array in bundle.arrays.items()}
    columns = [h * size + i for h in heads for i in range(size)]
    for b in range(bundle.spec["blocks"]):
        for part in ("query", "key", "value"):
            arrays[f"block_{b}_{part}/kernel"][:, columns] = 0
            arrays[f"block_{b}_{part}/bias"][columns] = 0
        arrays[f"block_{b}_mixed/kernel"][columns] = 0
        arrays[f"block_{b}_inner/kernel"][:, neurons] = 0
        arrays[f"block_{b}_inner/bias"][neurons] = 0
        arrays[f"block_{b}_outer/kernel"][neurons] = 0
    for part in ("copy", "near"):
        for layer, after in (("hidden", "hidden_2"), ("hidden_2", "out")):
            arrays[f"{part}_{layer}/kernel"][:, copy_neurons] = 0
            arrays[f"{part}_{layer}/bias"][copy_neurons] = 0
            arrays[f"{part}_{after}/kernel"][copy_neurons] = 0
    return replace(bundle, arrays=arrays)


def test_removing_what_is_zero_changes_no_score() -> None:
    zeroed = without(wide(), heads=[0, 2], neurons=[1, 4, 5], copy_neurons=[0, 3])
    small = shrunk(zeroed, Shares.even(0.5))
    assert widths(small.spec) == ((2, 2), (3, 3), 2)
    items, scores = ModelScorer(zeroed).top_k(HISTORIES, 5)
    same, near = ModelScorer(small).top_k(HISTORIES, 5)
    np.testing.assert_array_equal(items, same)
    np.testing.assert_allclose(scores, near, rtol=1e-5, atol=1e-5)


def test_what_stays_is_what_weighs_most() -> None:
    bundle = wide()
    size = spec_of(bundle.spec).size_of_head
    bundle.arrays["block_0_value/kernel"][:, 3 * size :] *= 100
    bundle.arrays["block_0_outer/kernel"][4] *= 100
    bundle.arrays["near_hidden/kernel"][:, 2] *= 100
    bundle.arrays["near_out/kernel"][1] *= 1000
    small = shrunk(bundle, Shares(heads=0.25, neurons=0.2, copy_neurons=0.25))
    expected = bundle.arrays["block_0_query/kernel"][:, 3 * size :]
    np.testing.assert_array_equal(small.arrays["block_0_query/kernel"], expected)
    expected = bundle.arrays["block_0_inner/kernel"][:, [4]]
    np.testing.assert_array_equal(small.arrays["block_0_inner/kernel"], expected)
    expected = bundle.arrays["near_hidden_2/kernel"][2:3, 1:2]
    np.testing.assert_array_equal(small.arrays["near_hidden_2/kernel"], expected)


def test_norms_are_means_over_the_line_of_versions() -> None:
    bundle, earlier = wide(1), wide(1)
    bundle.arrays["block_0_outer/kernel"][0] *= 2
    earlier.arrays["block_0_outer/kernel"][5] *= 100
    alone = shrunk(bundle, Shares(1.0, 1 / 6, 1.0))
    together = shrunk(bundle, Shares(1.0, 1 / 6, 1.0), line=[earlier])
    last = bundle.arrays["block_0_inner/kernel"][:, [5]]
    np.testing.assert_array_equal(together.arrays["block_0_inner/kernel"], last)
    assert (alone.arrays["block_0_inner/kernel"] != last).any()


def test_versions_of_other_widths_have_no_say() -> None:
    bundle = wide()
    alone, together = (shrunk(bundle, Shares.even(0.5), line) for line in ([], [wide(2, heads=2)]))
    for name, array in alone.arrays.items():
        np.testing.assert_array_equal(array, together.arrays[name])


def test_slots_follow_their_weights() -> None:
    small = shrunk(wide(), Shares.even(0.5))
    for name, array in small.arrays.items():
        np.testing.assert_array_equal(small.optimizer[f"{name}|m"], array + 1)
    assert small.optimizer["step"] == 7


def test_a_shortened_model_reads_the_latest_events_and_the_mean_of_all() -> None:
    whole = wide()
    small = shortened(whole, read_events=3, copy_items=2)
    told, turned, other = (_asked(old, [3, 4, 5]) for old in ([1, 2, 1, 3], [3, 1, 2, 1], [2] * 4))
    np.testing.assert_allclose(*(_context(small, x) for x in (told, turned)), rtol=1e-5, atol=1e-6)
    assert np.abs(_context(small, told) - _context(small, other)).max() > 1e-3
    assert np.abs(_context(whole, told) - _context(whole, turned)).max() > 1e-3


def test_a_shortened_model_keeps_what_the_latest_positions_learned() -> None:
    whole = wide()
    small = shortened(whole, read_events=3, copy_items=2)
    assert (small.spec["read_events"], small.copy_items) == (3, 2)
    name = "positions/embeddings"
    np.testing.assert_array_equal(small.arrays[name], whole.arrays[name][:4])
    np.testing.assert_array_equal(small.optimizer[f"{name}|m"], whole.optimizer[f"{name}|m"][:4])
    assert shortened(small, read_events=99, copy_items=999).spec == small.spec


def _asked(earlier: list[int], latest: list[int]) -> Histories:
    return histories_of([(n, float(i)) for i, n in enumerate([*earlier, *latest])], profile=(1,))


def _context(bundle: Bundle, asked: Histories) -> np.ndarray:
    """What the network makes of these events, whatever else is known of the user."""
    scorer = ModelScorer(bundle)
    x = {name: tf.constant(value) for name, value in inputs(asked, 8, 2, 0.9).as_dict().items()}
    x["user_features"] = tf.zeros_like(x["user_features"])
    return np.asarray(scorer.network.user_context(x, scorer._pool))


def test_shrinking_leaves_its_argument_and_the_heads_size_alone() -> None:
    bundle = wide()
    shapes = {name: array.shape for name, array in bundle.arrays.items()}
    small = shrunk(bundle, Shares.even(0.5))
    assert {name: array.shape for name, array in bundle.arrays.items()} == shapes
    assert "block_heads" not in {k: v for k, v in bundle.spec.items() if v}
    assert spec_of(small.spec).size_of_head == spec_of(bundle.spec).size_of_head


@pytest.mark.parametrize("shares", [Shares.even(1e-9), Shares(0.3, 0.1, 0.2)])
def test_at_least_one_of_each_is_kept(shares: Shares) -> None:
    small = shrunk(wide(), shares)
    assert widths(small.spec) == ((1, 1), (1, 1), 1)


def test_a_small_model_is_not_shrunk_twice() -> None:
    once = shrunk(wide(), Shares.even(0.5))
    assert target(once.spec, Shares.even(0.5)) == widths(once.spec)
    again = shrunk(once, Shares.even(0.5))
    for name, array in once.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])


def test_steps_end_at_the_shares_that_were_asked_for() -> None:
    first, last = Shares(0.25, 0.0625, 0.36).steps(2)
    assert first == pytest.approx((0.5, 0.25, 0.6))
    assert last == pytest.approx((0.25, 0.0625, 0.36))


class TestShrunkModel(ModelLaws):
    def bundle(self) -> Bundle:
        return shortened(shrunk(wide(), Shares.even(0.5)), read_events=2, copy_items=2)

    def histories(self) -> Histories:
        return HISTORIES
