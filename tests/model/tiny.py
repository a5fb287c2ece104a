"""A shop of a few items, and what its users did, as literals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from recsys_lib.model.affinity import FEATURES as AFFINITY
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Histories
from recsys_lib.model.network import Network, Spec
from recsys_lib.model.stats import item_stats
from recsys_lib.model.weights import named_arrays

Event = tuple[int, float]
"""(item, at)"""
SIZES: dict[str, Any] = {
    "embedding_size": 8,
    "blocks": 1,
    "heads": 2,
    "feed_forward_size": 8,
    "copy_size": 4,
    "affinity": len(AFFINITY),
    "gate_user": True,
    "recent_events": 8,
}


def histories_of(*rows: list[Event], now: float = 10.0, profile: tuple[int, ...] = ()) -> Histories:
    """Each row is a list of (item, at), oldest first; all events have type 1."""
    flat = [event for row in rows for event in row]
    return Histories(
        offsets=np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64),
        items=np.array([item for item, _ in flat], dtype=np.int32),
        types=np.ones(len(flat), dtype=np.int32),
        at=np.array([at for _, at in flat], dtype=np.float32),
        now=np.full(len(rows), now, dtype=np.float32),
        profile=np.tile(np.array(profile, dtype=np.int32), (len(rows), 1)),
    )


def sequences_of(
    *rows: list[Event],
    known: int | list[int] = 0,
    types: list[list[int]] | None = None,
    profile: list[list[int]] | None = None,
    worth: float = 0.0,
) -> pa.Table:
    """Rows of the `sequences` table, as Spark writes them."""
    kinds = types or [[1] * len(row) for row in rows]
    knowns = [known] * len(rows) if isinstance(known, int) else known
    return pa.table(
        {
            "window": pa.array([int(row[-1][1]) if row else 0 for row in rows], pa.int32()),
            "user": pa.array([f"u{i}" for i in range(len(rows))], pa.string()),
            "items": pa.array([[i for i, _ in row] for row in rows], pa.list_(pa.int32())),
            "types": pa.array(kinds, pa.list_(pa.int32())),
            "at": pa.array([[at for _, at in row] for row in rows], pa.list_(pa.float32())),
            "values": pa.array([[worth] * len(row) for row in rows], pa.list_(pa.float32())),
            "known": pa.array(knowns, pa.int32()),
            "profile": pa.array(profile or [[] for _ in rows], pa.list_(pa.int32())),
        }
    )


def catalog_of(
    items: int = 5,
    buyers: dict[int, float] | None = None,
    attributes: list[list[int]] | None = None,
    profile: tuple[int, ...] = (),
    types: tuple[str, ...] = ("", "buy"),
) -> Catalog:
    """Items "a", "b", ... as known when window 10 began; `buyers` of window 9 by item."""
    counts = buyers or {}
    table = np.array(attributes or [[] for _ in range(items + 1)], dtype=np.int32)
    return Catalog(
        ids=np.array(["", *(chr(97 + i) for i in range(items))]),
        attributes=table,
        sizes=tuple(int(n) for n in table.max(axis=0)) if table.size else (),
        profile=profile,
        types=types,
        stats=item_stats(
            window=np.full(len(counts), 9),
            index=np.array(list(counts), dtype=np.int64),
            users=np.array(list(counts.values()), dtype=np.float64),
            items=items,
            first=10,
            last=10,
        ).with_kinds(table),
    )


def spec_for(catalog: Catalog, **changes: Any) -> Spec:
    stats = catalog.stats.values.shape[2]
    told = {"stats": stats, "copy_stats": stats - catalog.stats.kinds}
    shop = {"attributes": catalog.sizes, "profile": catalog.profile, **told}
    return Spec(items=catalog.items, types=len(catalog.types) - 1, **{**shop, **SIZES, **changes})


def shaken(network: Network, seed: int = 1, scale: float = 0.3) -> Network:
    """The network with every weight moved, as training would: nothing is zero any more."""
    random = np.random.default_rng(seed)
    for variable in network.variables().values():
        variable.assign_add(random.normal(0, scale, variable.shape).astype(np.float32))
    return network


def bundle_of(
    catalog: Catalog | None = None, network: Network | None = None, **changes: Any
) -> Bundle:
    """An untrained model of the shop, or what `network` has learned."""
    shop = catalog or catalog_of()
    net = network or Network(spec_for(shop), seed=3)
    made = Bundle(
        spec=net.spec.as_dict(),
        arrays=named_arrays(net),
        optimizer={},
        catalog=shop,
        task="next_window",
        targets=("buy",),
        learned=9,
        decay=0.9,
        copy_items=16,
        lineage={},
    )
    return replace(made, **changes)


def learned_bundle(catalog: Catalog | None = None, seed: int = 1) -> Bundle:
    """A model none of whose weights is at its start."""
    shop = catalog or catalog_of()
    return bundle_of(shop, shaken(Network(spec_for(shop), seed=3), seed))


@contextmanager
def untraced() -> Iterator[None]:
    """Without compiled graphs: tracing one for each of many tiny models takes minutes."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)
