"""A small shop with neighbours, its learned model, and what is shipped of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lib.compress.export import export
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Histories
from recsys_lib.model.neighbours import Neighbours
from recsys_lib.model.network import Network
from recsys_lib.model.plans import Plans
from recsys_lib.model.shipped.bundle import Shipped
from recsys_lib.settings import CompressSettings
from tests.model.tiny import Event, bundle_of, catalog_of, histories_of, shaken, spec_for

EXACT = CompressSettings(bits=32, encoder_bits=32)
SMALL = CompressSettings(bits=8, encoder_bits=8)


def shop_of(items: int, seed: int = 0) -> Catalog:
    """Items of two kinds and three makers; some were bought, some are near others."""
    random = np.random.default_rng(seed)
    attributes = [[0, 0], *random.integers(1, [3, 4], (items, 2)).tolist()]
    buyers = {
        int(i): float(n) for i, n in zip(range(1, items + 1), random.zipf(1.5, items), strict=True)
    }
    shop = catalog_of(items, buyers, attributes, profile=(2,), types=("", "buy", "view"))
    ids = np.array(["", *(f"i{n}" for n in range(1, items + 1))])
    near = np.zeros((1, items + 1, 4), np.int32)
    near[0, 1:] = random.integers(1, items + 1, (items, 4))
    share = np.sort(random.random((1, items + 1, 4)).astype(np.float32))[..., ::-1] / 4
    share = np.where(near > 0, share, 0).astype(np.float32)
    planned = random.random((11, items + 1)) < 0.3
    planned[:, 0] = False
    window, item = np.nonzero(planned)
    plans = Plans.of(window, item, random.uniform(0.5, 3, len(item)).astype(np.float32), items)
    neighbours = Neighbours(near, share, np.ones((1, items + 1), np.float32))
    return replace(shop, ids=ids, neighbours=neighbours, plans=plans)


def model_of(shop: Catalog, seed: int = 1, **changes: Any) -> Bundle:
    spec = spec_for(shop, **{"blocks": 2, "near_events": 4, "near_items": 8, **changes})
    made = bundle_of(shop, shaken(Network(spec, seed=3), seed))
    return replace(made, lineage={"tables": {"vocabulary": 4}, "mapping": "tiny"})


def asked(items: int, users: int = 30, seed: int = 5) -> Histories:
    """Histories of 0 to 12 events, the first of them empty."""
    random = np.random.default_rng(seed)

    def events(count: int) -> list[Event]:
        at = np.sort(random.uniform(0, 10, count))
        return [(int(random.integers(0, items + 1)), float(t)) for t in at]

    made = histories_of([], *(events(int(n)) for n in random.integers(1, 13, users)), profile=(1,))
    return replace(made, types=random.integers(1, 3, len(made.types)).astype(np.int32))


def shipped(bundle: Bundle, folder: Path, settings: CompressSettings, **given: Any) -> Shipped:
    return Shipped.load(export(bundle, folder, settings, **given))
