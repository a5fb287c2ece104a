"""The forms a model can be shipped in; the first is what the others are compared to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lib.compress.export import export
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Floats, Histories, Ints, Scorer
from recsys_lib.model.inputs import inputs
from recsys_lib.model.network import Pool
from recsys_lib.model.requests import known_to
from recsys_lib.model.scorer import ModelScorer
from recsys_lib.model.shipped.bundle import FOLDER
from recsys_lib.model.shipped.scorer import ShippedScorer
from recsys_lib.model.tensorflow import tf
from recsys_lib.settings import CompressSettings

PLAIN = CompressSettings(bits=32, encoder_bits=32, ann_items=10**9)
DENSE, SHRUNK = "dense, int8", "shrunk, int8"
"""What is shipped without and with `compress.shrink`."""
PRUNABLE = ("block", "user", "attribute", "copy", "near")


class SavedModelScorer:
    """The dense network, exported whole: inputs in, the best items out."""

    def __init__(self, folder: Path, bundle: Bundle, shop: Catalog, name: str) -> None:
        """Exported with the shop of the day, as its tables are constants of the graph."""
        inner = ModelScorer(bundle, shop)
        self.name, self._shop, self._spec = name, inner.bundle.catalog, inner.network.spec
        self._near, self._bundle = inner._near, inner.bundle
        self._attributes = inner._attributes
        if not folder.exists():
            _save(inner, folder)
        self._answer = tf.saved_model.load(str(folder)).signatures["serving_default"]

    def top_k(
        self, histories: Histories, k: int, *, exclude_seen: bool = False
    ) -> tuple[Ints, Floats]:
        """See Scorer; one moment for all histories."""
        histories = known_to(self._shop, histories)
        made = inputs(
            histories,
            self._spec.recent_events,
            self._bundle.copy_items,
            self._bundle.decay,
            self._near,
            self._attributes,
            self._shop.plans,
        )
        x = {name: tf.constant(value) for name, value in made.as_dict().items()}
        pairs = np.stack([histories.row, histories.items.astype(np.int64)], 1)
        seen = tf.constant(pairs if exclude_seen else pairs[:0])
        told = self._answer(**x, seen=seen, k=tf.constant(k))
        return told["items"].numpy(), told["scores"].numpy()


def _save(scorer: ModelScorer, folder: Path) -> None:
    module = tf.Module()
    module.matrix = tf.Variable(scorer._matrix(0), trainable=False)
    pool = Pool(*(tf.Variable(part, trainable=False) for part in scorer._pool))
    module.pool = list(pool)
    module.stats = tf.Variable(scorer._stats[0], trainable=False)
    weights = scorer.network.layers
    module.layers = [layer for name, layer in weights.items() if name not in ("items", "item_bias")]
    scorer._pool = pool  # so that the graph reads the variable, and holds no copy
    nobody = _nobody(len(scorer.bundle.catalog.profile))
    probe = inputs(nobody, 1, 1, 0.9, attributes=scorer._attributes).as_dict()

    def answer(seen: Any, k: Any, **x: Any) -> dict[str, Any]:
        found, best = scorer._score_graph(x, module.matrix, module.stats, seen, k)
        return {"items": found, "scores": best}

    shapes = {name: tf.TensorSpec([None] * v.ndim, v.dtype, name) for name, v in probe.items()}
    shapes["profile"] = tf.TensorSpec([None, probe["profile"].shape[1]], tf.int32, "profile")
    for name in ("recent_facts", "copy_features", "near_features", "user_features"):
        width = probe[name].shape[-1]
        shapes[name] = tf.TensorSpec([None] * (probe[name].ndim - 1) + [width], tf.float32, name)
    graph = tf.function(answer).get_concrete_function(
        seen=tf.TensorSpec([None, 2], tf.int64, "seen"),
        k=tf.TensorSpec([], tf.int32, "k"),
        **shapes,
    )
    tf.saved_model.save(module, str(folder), signatures=graph)


def _nobody(profile: int) -> Histories:
    none = np.zeros(0, np.int32)
    return Histories(
        np.zeros(2, np.int64),
        none,
        none,
        np.zeros(0, np.float32),
        np.zeros(1, np.float32),
        np.zeros((1, profile), np.int32),
    )


@dataclass(frozen=True)
class Form:
    """`bundle` as `settings` ship it; settings None: the SavedModel of the network."""

    name: str
    bundle: Bundle
    settings: CompressSettings | None
    folder: Path

    def opened(self, shop: Catalog) -> Scorer:
        """With the shop of some moment."""
        if self.settings is None:
            place = self.folder / f"saved-{shop.stats.first}-{shop.items}"
            return SavedModelScorer(place, self.bundle, shop, self.name)
        return ShippedScorer.open(self.folder / FOLDER, shop, name=self.name)

    def made(self, golden: Histories) -> Form:
        if self.settings is not None and not (self.folder / FOLDER).exists():
            export(self.bundle, self.folder, self.settings, golden)
        return self

    def bytes(self) -> int:
        """On disk. Of the network: its float weights, and what it must know of the items."""
        if self.settings is None:
            return sum((self.folder / n).stat().st_size for n in ("weights.npz", "items.parquet"))
        files = (self.folder / FOLDER).rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())

    def saved_bytes(self) -> int | None:
        """Of the SavedModel, which holds the item vectors and their product's matrix ready."""
        saved = sorted(self.folder.glob("saved-*"))
        files = saved[0].rglob("*") if saved else []
        found = sum(file.stat().st_size for file in files if file.is_file())
        return found + (self.folder / "items.parquet").stat().st_size if found else None


def forms(dense: Bundle, small: Bundle, root: Path, shipped: CompressSettings) -> list[Form]:
    """One step of the way at a time. `dense`, `small`: the model before and after shrinking."""
    whole = shipped.model_copy(update={"ann_items": 10**9})
    steps: list[tuple[str, Bundle, CompressSettings | None]] = [
        ("dense, SavedModel", dense, None),
        ("80 % zeros, SavedModel", zeroed(dense, 0.8), None),
        ("dense, LiteRT", dense, PLAIN),
        ("shrunk, LiteRT", small, PLAIN),
        ("shrunk, int8 vectors", small, whole),
        ("shrunk, int8 vectors and encoder", small, whole.model_copy(update={"encoder_bits": 8})),
        (DENSE, dense, shipped),
        (SHRUNK, small, shipped),
    ]
    return [Form(name, b, s, root / f"form-{i}") for i, (name, b, s) in enumerate(steps)]


def zeroed(bundle: Bundle, share: float) -> Bundle:
    """The smallest weights of every prunable kernel at zero, without a fine-tune after it."""

    def cut(name: str, array: np.ndarray) -> np.ndarray:
        if not name.startswith(PRUNABLE) or not name.endswith("/kernel"):
            return array
        return np.where(np.abs(array) < np.quantile(np.abs(array), share), 0, array)

    return replace(bundle, arrays={name: cut(name, a) for name, a in bundle.arrays.items()})
