from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys_lib.errors import ModelError
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.plans import Plans
from recsys_lib.model.scorer import spec_of
from tests.model.tiny import catalog_of, learned_bundle

ATTRIBUTES = [[0, 0], [1, 2], [1, 1], [2, 1]]


def shop_bundle() -> Bundle:
    shop = catalog_of(3, {1: 4.0}, ATTRIBUTES, profile=(2,))
    shop = replace(shop, plans=Plans.of(np.array([8, 9]), np.array([3, 1]), np.ones(2), 3))
    slots = {
        "items/embeddings|m": np.ones((4, 8), np.float32),
        "gate/kernel|m": np.ones((16, 1), np.float32),
        "step": np.float32(12),
    }
    return replace(learned_bundle(shop), optimizer=slots, lineage={"mapping": "tiny"})


def test_everything_comes_back_from_disk(tmp_path: Path) -> None:
    bundle = shop_bundle()
    bundle.save(tmp_path / "model")
    again = Bundle.load(tmp_path / "model")
    for mine, theirs in ((bundle.arrays, again.arrays), (bundle.optimizer, again.optimizer)):
        assert mine.keys() == theirs.keys()
        for name, array in mine.items():
            np.testing.assert_array_equal(array, theirs[name])
    assert spec_of(again.spec) == spec_of(bundle.spec)
    for name in ("task", "targets", "learned", "decay", "copy_items", "lineage"):
        assert getattr(again, name) == getattr(bundle, name)
    shop, loaded = bundle.catalog, again.catalog
    assert loaded.ids.tolist() == shop.ids.tolist()
    assert loaded.attributes.tolist() == shop.attributes.tolist()
    assert (loaded.sizes, loaded.profile, loaded.types) == (shop.sizes, shop.profile, shop.types)
    assert loaded.stats.first == shop.stats.first
    np.testing.assert_array_equal(loaded.stats.values, shop.stats.values)
    assert shop.plans is not None
    assert loaded.plans is not None
    for name, values in vars(shop.plans).items():
        np.testing.assert_array_equal(getattr(loaded.plans, name), values)


def test_a_shop_without_attributes_comes_back_from_disk(tmp_path: Path) -> None:
    bundle = learned_bundle(catalog_of(3))
    bundle.save(tmp_path / "model")
    assert Bundle.load(tmp_path / "model").catalog.attributes.shape == (4, 0)


def test_saving_replaces_an_older_folder_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    bundle = shop_bundle()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    (tmp_path / ".model.part").mkdir()
    (tmp_path / ".model.part" / "half").write_text("killed while writing")
    bundle.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"model.json", "weights.npz", "optimizer.npz", "items.parquet"}


def test_a_save_that_is_killed_before_its_end_leaves_the_older_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop_bundle().save(tmp_path / "model")
    before = (tmp_path / "model" / "model.json").read_text()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", killed)
    with pytest.raises(KeyboardInterrupt):
        replace(shop_bundle(), learned=99).save(tmp_path / "model")
    assert (tmp_path / "model" / "model.json").read_text() == before


@pytest.mark.parametrize("name", ["weights.npz", "optimizer.npz", "items.parquet"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    shop_bundle().save(tmp_path / "model")
    file = tmp_path / "model" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name} is damaged .*fetch it again"):
        Bundle.load(tmp_path / "model")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    shop_bundle().save(tmp_path / "model")
    (tmp_path / "model" / "weights.npz").unlink()
    with pytest.raises(ModelError, match=r"must hold weights\.npz; it is missing"):
        Bundle.load(tmp_path / "model")


def test_a_folder_that_is_not_there_is_refused_with_what_to_name_instead(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"readable model\.json .*@champion"):
        Bundle.load(tmp_path / "nothing")


def test_half_a_manifest_is_refused(tmp_path: Path) -> None:
    shop_bundle().save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    file.write_text(file.read_text()[:40])
    with pytest.raises(ModelError, match=r"readable model\.json"):
        Bundle.load(tmp_path / "model")


def test_another_format_is_refused_with_both_numbers(tmp_path: Path) -> None:
    shop_bundle().save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
    with pytest.raises(ModelError, match="format must be 5, got 99"):
        Bundle.load(tmp_path / "model")


def test_growth_keeps_every_old_row_and_slot_and_adds_zero_rows() -> None:
    bundle = shop_bundle()
    larger = catalog_of(5, {}, [*ATTRIBUTES, [3, 1], [1, 4]], (3,), ("", "buy", "view"))
    grown = bundle.grown(larger)
    added = {"items/embeddings": 2, "item_bias/embeddings": 2, "copy_bias/embeddings": 2}
    added |= {"types/embeddings": 1, "copy_types/embeddings": 1, "profile_0/embeddings": 1}
    added |= {"attribute_0/embeddings": 1, "attribute_1/embeddings": 2}
    added |= {"items/embeddings|m": 2}
    for old, new in ((bundle.arrays, grown.arrays), (bundle.optimizer, grown.optimizer)):
        assert old.keys() == new.keys()
        for name, array in old.items():
            if not array.ndim:
                assert new[name] == array
                continue
            np.testing.assert_array_equal(new[name][: len(array)], array)
            assert new[name][len(array) :].shape[0] == added.get(name, 0), name
            assert not new[name][len(array) :].any()
    assert (grown.spec["items"], grown.spec["types"]) == (5, 2)
    assert (grown.spec["attributes"], grown.spec["profile"]) == ([3, 4], [3])
    assert grown.catalog.ids is larger.ids


def test_growth_leaves_the_model_it_came_from_as_it_was() -> None:
    bundle = shop_bundle()
    shapes = {name: array.shape for name, array in bundle.arrays.items()}
    bundle.grown(catalog_of(5, {}, [*ATTRIBUTES, [3, 1], [1, 4]], (3,)))
    assert {name: array.shape for name, array in bundle.arrays.items()} == shapes
    assert bundle.spec["items"] == 3


@pytest.mark.parametrize(
    ("shop", "words"),
    [
        (catalog_of(2, {}, ATTRIBUTES[:3], (2,)), "know the model's 3 items, got 2: vocabularies"),
        (catalog_of(3, {}, [[0, 0], [1, 1], [1, 1], [2, 1]], (2,)), r"attribute_1/\S+ has 3 rows"),
        (catalog_of(3, {}, ATTRIBUTES, (1,)), r"profile_0/\S+ has 3 rows"),
    ],
    ids=["items", "attribute values", "profile values"],
)
def test_a_vocabulary_that_shrinks_is_refused(shop: object, words: str) -> None:
    with pytest.raises(ModelError, match=f"{words}.*never shrink"):
        shop_bundle().grown(shop)  # type: ignore[arg-type]


def test_another_number_of_attribute_columns_is_refused() -> None:
    with pytest.raises(ModelError, match=r"2 attributes columns, .* 1; map the same"):
        shop_bundle().grown(catalog_of(3, {}, [[0], [1], [1], [2]], (2,)))
    with pytest.raises(ModelError, match=r"1 profile columns, .* 0; map the same"):
        shop_bundle().grown(catalog_of(3, {}, ATTRIBUTES))
