from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lib.settings import TrainSettings
from recsys_lib.train.augment import READ, Tensors, augmented

WIDTH = 16


def tensors(*lengths: int) -> Tensors:
    """Row r has events 1..lengths[r], the latest at the right; what is known of them follows."""
    items = np.zeros((len(lengths), WIDTH), np.int32)
    for row, length in enumerate(lengths):
        items[row, WIDTH - length :] = np.arange(1, length + 1)
    facts = np.stack([items, -items], -1).astype(np.float32)
    return {
        "recent_items": items,
        "recent_types": items + 100,
        "recent_facts": facts,
        "copy_items": items.copy(),
    }


def changed(x: Tensors, seed: int = 1, **settings: Any) -> Tensors:
    return augmented(x, TrainSettings(**settings), np.random.default_rng(seed))


def test_without_settings_nothing_is_touched() -> None:
    x = tensors(3, 0, 16)
    assert changed(x) is x


@given(
    lengths=st.lists(st.integers(0, WIDTH), min_size=1, max_size=6),
    crop=st.floats(0, 1),
    mask=st.floats(0, 0.99),
    reorder=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_events_are_hidden_or_moved_whole_and_never_made_up(
    lengths: list[int], crop: float, mask: float, reorder: float, seed: int
) -> None:
    x = tensors(*lengths)
    found = changed(x, seed, crop=crop, mask=mask, reorder=reorder)
    for row, length in enumerate(lengths):
        items = found["recent_items"][row]
        left = items[items > 0]
        assert len(set(left)) == len(left) <= length
        assert set(left) <= set(range(1, length + 1))
        assert (found["recent_types"][row][items > 0] == left + 100).all()
        assert (found["recent_facts"][row][items > 0][:, 1] == -left).all()
        assert not length or items[-1] > 0, "the latest place is never hidden"
    assert (found["copy_items"] == x["copy_items"]).all()
    assert {name: found[name].dtype for name in READ} == {name: x[name].dtype for name in READ}


def test_a_crop_takes_older_events_and_leaves_the_latest_half() -> None:
    left = [
        found[found > 0].tolist()
        for seed in range(30)
        for found in changed(tensors(10), seed, crop=1)["recent_items"]
    ]
    assert all(row == list(range(11 - len(row), 11)) for row in left)
    assert {len(row) for row in left} <= {5, 6, 7, 8, 9, 10}
    assert len({len(row) for row in left}) > 2


def test_a_mask_hides_about_its_share_of_the_events() -> None:
    found = changed(tensors(*[WIDTH] * 500), mask=0.3)["recent_items"][:, :-1]
    assert (found == 0).mean() == pytest.approx(0.3, abs=0.03)


def test_reordering_shuffles_a_part_and_loses_nothing() -> None:
    rows = changed(tensors(*[WIDTH] * 50), reorder=1)["recent_items"]
    assert (np.sort(rows, 1) == np.arange(1, WIDTH + 1)).all()
    moved = (rows != np.arange(1, WIDTH + 1)).sum(1)
    assert moved.max() <= WIDTH // 4
    assert moved.any()
