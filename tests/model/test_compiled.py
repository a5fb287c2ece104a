from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.model.compiled import best_first, best_of, slot_of, slots_for

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
@given(st.dictionaries(ITEMS, SCORES, max_size=50))
def test_the_best_come_first_and_of_equals_the_smaller(scores: dict[int, float]) -> None:
    slots, keys = table_of(list(scores))
    found = best_first(np.array(list(scores.values()), np.float32), keys, slots)
    wanted = sorted(scores, key=lambda key: (-scores[key], key))
    assert keys[found].tolist() == wanted


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


@settings(max_examples=200, deadline=None)
@given(
    users=st.lists(st.tuples(RANKED, RANKED, RANKED, st.sets(st.integers(1, 9))), min_size=1),
    k=st.integers(1, 4),
    backwards=st.booleans(),
)
def test_the_best_of_few_and_rest_are_what_a_sort_of_them_all_says(
    users: list[tuple[dict[int, float], dict[int, float], dict[int, float], set[int]]],
    k: int,
    backwards: bool,
) -> None:
    def offsets(sizes: list[int]) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    # A user's items are in one part only.
    parts = [
        [u[0] for u in users],
        [{i: s for i, s in u[1].items() if i not in u[0]} for u in users],
    ]
    items = np.array([i for part in parts for few in part for i in few], np.int32)
    scores = np.array([s for part in parts for few in part for s in few.values()], np.float32)
    width = max(len(u[2]) for u in users) + 1
    found, told = np.zeros((len(users), width), np.int64), np.full((len(users), width), -np.inf)
    for row, user in enumerate(users):
        found[row, : len(user[2])], told[row, : len(user[2])] = (
            list(user[2]),
            list(user[2].values()),
        )
    hidden = np.array([i for u in users for i in sorted(u[3])], np.int32)
    asked = np.arange(len(users))[:: -1 if backwards else 1].copy()
    best, values, short = best_of(
        asked,
        (items, scores),
        (offsets([len(few) for few in parts[0]]), offsets([len(few) for few in parts[1]])),
        (found[asked], told[asked].astype(np.float32)),
        (offsets([len(u[3]) for u in users]), hidden),
        k,
    )
    for place, row in enumerate(asked):
        mine = {**parts[0][row], **parts[1][row]}
        others = {
            i: s for i, s in users[row][2].items() if i not in mine | dict.fromkeys(users[row][3])
        }
        wanted = sorted(((-s, i) for i, s in (mine | others).items()))[:k]
        assert best[place].tolist() == [i for _, i in wanted] + [0] * (k - len(wanted))
        assert values[place].tolist() == [-s for s, _ in wanted] + [-np.inf] * (k - len(wanted))
        assert short[place] == (len(others) < k)
