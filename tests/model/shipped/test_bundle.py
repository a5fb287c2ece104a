from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_lib.compress import export
from recsys_lib.compress.encoder import EncoderModule
from recsys_lib.errors import ModelError
from recsys_lib.model.folder import digest_of
from recsys_lib.model.histories import Histories
from recsys_lib.model.requests import select
from recsys_lib.model.shipped.bundle import MANIFEST, Shipped
from recsys_lib.model.shipped.golden import Golden
from recsys_lib.model.shipped.scorer import ShippedScorer, reopened
from tests.model.shipped.shop import EXACT, SMALL, asked, model_of, shipped, shop_of

ITEMS = 40
SHOP = shop_of(ITEMS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    shipped(model_of(SHOP), folder, SMALL, golden=asked(ITEMS))
    return folder / "serving"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "serving"))


def test_everything_comes_back_from_disk(tmp_path: Path) -> None:
    bundle = model_of(SHOP)
    found = shipped(bundle, tmp_path, EXACT)
    shop, loaded = bundle.catalog, found.catalog
    assert loaded.ids.tolist() == shop.ids.tolist()
    assert loaded.attributes.tolist() == shop.attributes.tolist()
    assert (loaded.sizes, loaded.profile, loaded.types) == (shop.sizes, shop.profile, shop.types)
    np.testing.assert_array_equal(loaded.stats.values, shop.stats.values)
    assert (found.task, found.targets, found.learned) == ("next_window", ("buy",), 9)
    assert found.vocabulary_version == 4
    assert shop.plans is not None
    assert loaded.plans is not None
    for name, values in vars(shop.plans).items():
        np.testing.assert_array_equal(getattr(loaded.plans, name), values)
    near, kept = shop.neighbours, loaded.neighbours
    assert near is not None
    assert kept is not None
    for item in range(1, ITEMS + 1):
        one, other = (
            sorted(zip(n.items[0, item].tolist(), n.share[0, item].tolist(), strict=True))
            for n in (near, kept)
        )
        assert one == other


def test_eight_bits_are_a_quarter_of_the_vectors_and_near_them(tmp_path: Path) -> None:
    bundle = model_of(SHOP)
    exact, small = (shipped(bundle, tmp_path / n, s) for n, s in (("a", EXACT), ("b", SMALL)))
    assert small.vectors.values.nbytes * 4 == exact.vectors.values.nbytes
    apart = np.abs(small.vectors.all() - exact.vectors.all()).max(1)
    assert (apart <= np.abs(exact.vectors.all()).max(1) / 127 / 2 + 1e-6).all()
    near, kept = exact.catalog.neighbours, small.catalog.neighbours
    assert near is not None
    assert kept is not None
    some = near.share > 0
    np.testing.assert_allclose(kept.share[some], near.share[some], rtol=0.03)


def test_another_process_gives_the_golden_answers(made: Path) -> None:
    code = (
        "import sys; from recsys_lib.model.shipped.scorer import ShippedScorer;"
        "s = ShippedScorer.open(sys.argv[1]); g = s.bundle.golden;"
        "print((s.top_k(g.histories, 20)[0] == g.items).all(), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.parametrize("name", ["encoder.tflite", "vectors.arrow", "catalog.parquet"])
def test_a_truncated_file_is_refused_by_name(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=f"{name} is damaged"):
        ShippedScorer.open(folder)


def test_a_missing_file_is_refused_by_name(folder: Path) -> None:
    (folder / "tables.arrow").unlink()
    with pytest.raises(ModelError, match=r"must hold tables.arrow"):
        ShippedScorer.open(folder)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="must be a serving bundle"):
        ShippedScorer.open(tmp_path)


def test_vectors_of_another_vocabulary_are_refused(folder: Path) -> None:
    rewritten(folder, vocabulary_version=5)
    with pytest.raises(ModelError, match="vectors must be those of vocabulary 5, got 4"):
        ShippedScorer.open(folder)


def test_changed_weights_are_refused_by_the_golden_answers(folder: Path, tmp_path: Path) -> None:
    shipped(model_of(SHOP, seed=2), tmp_path / "other", SMALL)
    shutil.copy(tmp_path / "other" / "serving" / "tables.arrow", folder / "tables.arrow")
    shutil.copy(tmp_path / "other" / "serving" / "vectors.arrow", folder / "vectors.arrow")
    files = json.loads((folder / MANIFEST).read_text())["files"]
    rewritten(folder, files={name: digest_of(folder / name) for name in files})
    with pytest.raises(ModelError, match="must give the answers it was shipped with"):
        ShippedScorer.open(folder)


def test_a_bundle_that_answers_otherwise_than_the_network_is_never_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = model_of(SHOP)
    shipped(bundle, tmp_path, EXACT, golden=asked(ITEMS))
    before = digest_of(tmp_path / "serving" / MANIFEST)
    wrong = {name: -array for name, array in bundle.arrays.items()}
    monkeypatch.setattr(export, "EncoderModule", lambda spec, _: EncoderModule(spec, wrong))
    with pytest.raises(ModelError, match="must answer as the model it is made of, got"):
        shipped(bundle, tmp_path, EXACT, golden=asked(ITEMS))
    assert digest_of(tmp_path / "serving" / MANIFEST) == before
    assert [path.name for path in tmp_path.iterdir()] == ["serving"]


class Answering:
    """A scorer that gives these answers to anything."""

    name = "these"

    def __init__(self, items: np.ndarray, scores: np.ndarray) -> None:
        self.answers = items, scores

    def top_k(self, histories: Histories, k: int, *, exclude_seen: bool = False) -> tuple[Any, Any]:
        return self.answers


THREE = np.array([[3, 1, 2]], np.int32), np.array([[-1.0, -2.0, -3.0]], np.float32)
NOTHING = np.zeros((1, 3), np.int32), np.full((1, 3), np.nan, np.float32)
TIED = np.array([[3, 1, 9]], np.int32), np.array([[-1.0, -2.0, -3.01]], np.float32)
OTHER = np.array([[3, 9, 2]], np.int32), np.array([[-1.0, -2.0, -3.0]], np.float32)


@pytest.mark.parametrize(
    ("golden", "answers", "good"),
    [
        (THREE, THREE, True),
        (THREE, TIED, True),
        (THREE, OTHER, False),
        (THREE, NOTHING, False),
        (NOTHING, NOTHING, False),
    ],
    ids=["the same", "another last one that is as good", "another one", "nothing", "nothing twice"],
)
def test_answers_are_good_that_are_the_same_but_for_near_ties(
    golden: tuple[Any, Any], answers: tuple[Any, Any], good: bool
) -> None:
    one = select(asked(ITEMS), np.array([3]))
    assert (Golden(one, *golden).fault(Answering(*answers)) == "") is good


def test_the_last_good_bundle_stays_where_a_new_one_is_refused(made: Path, folder: Path) -> None:
    good, reason = reopened(None, made)
    assert reason == ""
    (folder / "vectors.arrow").write_bytes(b"half")
    current, reason = reopened(good, folder)
    assert current is good
    assert "vectors.arrow is damaged" in reason
    with pytest.raises(ModelError):
        reopened(None, folder)


@pytest.mark.parametrize("options", [{}, {"tensorflow": True}], ids=["fallen back", "asked for"])
def test_where_litert_cannot_be_loaded_the_saved_model_is_proven_and_answers(
    made: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    items, _ = ShippedScorer.open(made).top_k(asked(ITEMS), 1)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    found, _ = ShippedScorer.open(made, **options).top_k(asked(ITEMS), 1)
    assert (found == items).mean() > 0.9


def test_a_shop_that_knows_less_than_the_model_is_refused(made: Path) -> None:
    with pytest.raises(ModelError, match="vocabularies never shrink"):
        ShippedScorer.open(made, shop_of(ITEMS - 1))


def test_golden_answers_come_back_from_disk(made: Path) -> None:
    golden = Shipped.load(made).golden
    assert golden is not None
    again = Golden.of(golden.table())
    for name, value in vars(golden.histories).items():
        np.testing.assert_array_equal(value, getattr(again.histories, name))
    np.testing.assert_array_equal(again.items, golden.items)


def rewritten(folder: Path, **changes: object) -> None:
    text = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**text, **changes}))
