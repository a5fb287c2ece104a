from __future__ import annotations

import math
import os
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.model.compiled import best_of, slot_of, slots_for, strongest

ROOT = Path(__file__).parents[2]
ITEMS = st.integers(0, 2**31 - 1)
# Scores that often tie, and some that differ in the last bit.
SCORES = st.sampled_from([0.0, 1e-30, 0.5, 1.0, float(np.nextafter(np.float32(1), 2)), 3e8])


def table_of(keys: list[int]) -> tuple[np.ndarray, np.ndarray]:
    slots, held = slots_for(len(keys)), np.array(keys, np.int32)
    for place, key in enumerate(keys):
        slots[slot_of(slots, held, key)] = place
    return slots, held


@settings(max_examples=100, deadline=None)
@given(st.lists(ITEMS, unique=True, max_size=300), st.lists(ITEMS, max_size=20))
def test_a_key_is_found_where_it_was_put_and_a_strange_one_is_not(
    keys: list[int], others: list[int]
) -> None:
    slots, held = table_of(keys)
    assert [slots[slot_of(slots, held, key)] for key in keys] == list(range(len(keys)))
    strange = [key for key in others if key not in keys]
    assert all(slots[slot_of(slots, held, key)] == -1 for key in strange)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(ITEMS, SCORES, max_size=50), st.integers(1, 20))
def test_the_strongest_are_kept_and_of_equals_the_smaller(
    scores: dict[int, float], most: int
) -> None:
    keys = np.array(list(scores), np.int32)
    found = strongest(np.array(list(scores.values()), np.float32), keys, most)
    wanted = sorted(scores, key=lambda key: (-scores[key], key))[:most]
    assert keys[found].tolist() == [key for key in scores if key in wanted]


ZIPPED = """
import sys
sys.path.insert(0, sys.argv[1])
from recsys_lib.model.compiled import slots_for
print(slots_for.__module__, len(slots_for(3)))
"""


def test_a_loop_is_compiled_where_nothing_can_be_kept(tmp_path: Path) -> None:
    # As on a cluster: the package is in an archive, and the user has no home.
    archive = tmp_path / "alluvium.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for name in ("__init__", "model/__init__", "model/compiled", "model/histories"):
            out.write(ROOT / "recsys_lib" / f"{name}.py", f"recsys_lib/{name}.py")
    env = {"HOME": "/dev/null/home", "PATH": os.environ["PATH"]}
    run = [sys.executable, "-c", ZIPPED, str(archive)]
    told = subprocess.run(run, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.stdout == "recsys_lib.model.compiled 16\n", told.stderr


RANKED = st.dictionaries(st.integers(1, 9), st.sampled_from([-9.5, -3.0, -1.0, 0.0, 2.5]))
HAD = st.dictionaries(st.integers(1, 9), st.sampled_from([-4.0, 0.0, 1.5]), max_size=4)


@settings(max_examples=200, deadline=None)
@given(
    users=st.lists(st.tuples(HAD, HAD, st.sets(st.integers(1, 9), max_size=3)), min_size=1),
    shop=RANKED.filter(bool),
    cell=st.integers(1, 4),
    k=st.integers(1, 12),
    forgotten=st.integers(0, 1),
)
def test_the_best_of_parts_and_shop_are_what_a_sort_of_them_all_says(
    users: list[tuple[dict[int, float], dict[int, float], set[int]]],
    shop: dict[int, float],
    cell: int,
    k: int,
    forgotten: int,
) -> None:
    def offsets(sizes: list[int]) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def explored(item: int) -> float:
        return shop.get(item, -2.0)

    # A user's items are in one part only.
    parts = [
        [u[0] for u in users],
        [{i: s for i, s in u[1].items() if i not in u[0]} for u in users],
    ]
    gate = np.tile(np.array([-0.5, -1.5, -1.0], np.float32), (len(users), 1))
    told = tuple(
        (
            offsets([len(few) for few in part]),
            np.array([i for few in part for i in few], np.int32),
            np.array([s for few in part for s in few.values()], np.float32),
            np.array([explored(i) for few in part for i in few], np.float32),
        )
        for part in parts
    )
    order, count = list(shop), len(shop)
    cuts = offsets([min(cell, count - start) for start in range(0, count, cell)])
    values = np.array([shop[item] for item in order], np.float32)
    bounds = np.maximum.reduceat(values, cuts[:-1])
    best, found = best_of(
        told,
        gate,
        (offsets([len(u[2]) for u in users]), np.array([i for u in users for i in u[2]], np.int32)),
        forgotten,
        (
            cuts,
            np.array(order, np.int32),
            np.zeros((count, 2), np.int8),
            np.ones(count, np.float32),
            values[:, None],
        ),
        (
            np.ones((len(users), 2), np.float32),
            np.ones((len(users), 1), np.float32),
            np.tile(bounds, (len(users), 1)),
        ),
        k,
    )
    for row, user in enumerate(users):
        mine: dict[int, float] = {}
        for number in range(forgotten, 2):
            few = parts[number][row]
            whole = sum(math.exp(s) for s in few.values())
            for i, s in few.items():
                share = math.exp(s) / whole * math.exp(float(gate[row, number]))
                mine[i] = math.log(share + math.exp(explored(i) - 1.0))
        known = parts[0][row].keys() | parts[1][row].keys() | user[2]
        others = {i: s - 1.0 for i, s in shop.items() if i not in known}
        wanted = sorted((mine | others).values(), reverse=True)[:k]
        real = [i for i in best[row].tolist() if i]
        assert len(real) == len(wanted)
        assert len(set(real)) == len(real)
        assert [(mine | others)[i] for i in real] == pytest.approx(wanted)
        assert found[row, : len(real)] == pytest.approx(wanted, abs=1e-5)
        assert np.isneginf(found[row, len(real) :]).all()
        alike = [
            (a, b)
            for (a, s), (b, t) in pairwise(zip(real, found[row].tolist(), strict=False))
            if s == t
        ]
        assert all(a < b for a, b in alike)
