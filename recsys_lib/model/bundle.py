"""A model version on disk: a folder that can be scored with nothing else at hand.

model.json      spec, inputs, lineage, and a hash of every other file
weights.npz     trainable variables by name
optimizer.npz   optimiser slots by variable name, and `step`
items.parquet   index, id, attributes, statistics, neighbours and plans of the item
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_lib.errors import ModelError
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.folder import check_files, digest_of, read_manifest, whole_folder
from recsys_lib.model.neighbours import Neighbours
from recsys_lib.model.plans import Plans
from recsys_lib.model.ragged import offsets_of, pad_right
from recsys_lib.model.stats import ItemStats
from recsys_lib.model.tail import ITEM_TABLES, NONE, Cut, lengthened

FORMAT = 5
MANIFEST = "model.json"
ONLY_GROW = (
    "vocabularies never shrink: use the tables that this model was trained on, or newer ones"
)
Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Bundle:
    """Weights with all that gives them meaning. `spec` holds the network's sizes by name."""

    spec: dict[str, Any]
    arrays: Arrays
    optimizer: Arrays
    catalog: Catalog
    task: str
    targets: tuple[str, ...]
    learned: int
    decay: float
    copy_items: int
    lineage: dict[str, Any]

    def save(self, folder: str | Path) -> None:
        """Write the folder whole or not at all; an older folder of that name is replaced."""
        with whole_folder(Path(folder)) as part:
            np.savez(part / "weights.npz", **self.arrays)
            np.savez(part / "optimizer.npz", **self.optimizer)
            pq.write_table(items_table(self.catalog), part / "items.parquet")
            files = ("weights.npz", "optimizer.npz", "items.parquet")
            text = {
                "format": FORMAT,
                "spec": self.spec,
                "task": self.task,
                "targets": list(self.targets),
                "learned": self.learned,
                "decay": self.decay,
                "copy_items": self.copy_items,
                **catalog_text(self.catalog),
                "lineage": self.lineage,
                "files": {name: digest_of(part / name) for name in files},
            }
            (part / MANIFEST).write_text(json.dumps(text, indent=1, default=list))

    @classmethod
    def load(cls, folder: str | Path) -> Bundle:
        """Read and check a folder. Raises ModelError with what is wrong with it."""
        root = Path(folder)
        text = manifest_of(root)
        check_files(root, text["files"])
        catalog = catalog_of(pq.read_table(root / "items.parquet"), text)
        return cls(
            spec=text["spec"],
            arrays=_npz(root / "weights.npz"),
            optimizer=_npz(root / "optimizer.npz"),
            catalog=catalog,
            task=text["task"],
            targets=tuple(text["targets"]),
            learned=text["learned"],
            decay=text["decay"],
            copy_items=text["copy_items"],
            lineage=text["lineage"],
        )

    def grown(self, catalog: Catalog) -> Bundle:
        """The same model for a larger catalogue: every table gets rows, none moves.

        Indices are never reused, so old rows keep their meaning. New rows are zero: a new item's
        vector is then that of its attributes alone. So it is where the item tables end: an item
        that came since has no row until the model is `settled`. Raises ModelError for another shop.
        """
        cut, old = Cut.of(self.spec), self.catalog
        catalog.check_follows(old)
        ends = old.rows is not None or not cut.holds_all(catalog.items)
        rows_of = lengthened(old.rows, old.items, catalog.items) if ends else None
        sizes: dict[str, Any] = {
            "items": self.spec["items"] if ends else catalog.items,
            "types": len(catalog.types) - 1,
            "attributes": list(catalog.sizes),
            "profile": list(catalog.profile),
        }
        rows = table_rows({**self.spec, **sizes})
        return replace(
            self,
            spec={**self.spec, **sizes},
            arrays=_extended(self.arrays, rows),
            optimizer=_extended(self.optimizer, rows),
            catalog=replace(
                catalog, rows=rows_of, stats=catalog.stats.narrowed(self.spec["stats"])
            ),
        )

    def settled(self) -> Bundle:
        """The same model, ready to learn: where its item tables end, every item has a row.

        What was taken most has one of its own; it begins with what it has shared before.
        """
        cut, before = Cut.of(self.spec), self.catalog.rows
        if before is None:
            return self
        catalog = self.catalog.settled(cut)
        assert catalog.rows is not None
        spec = {**self.spec, "items": cut.size(catalog.items)}
        items = np.flatnonzero((catalog.rows != before) & (catalog.rows <= cut.own))
        to, source = catalog.rows[items], before[items]
        rows = table_rows(spec)
        return replace(
            self,
            spec=spec,
            arrays=_moved(_extended(self.arrays, rows), to, source),
            optimizer=_moved(_extended(self.optimizer, rows), to, np.full_like(source, NONE)),
            catalog=catalog,
        )


def _moved(arrays: Arrays, to: NDArray[np.int32], source: NDArray[np.int32]) -> Arrays:
    """The item tables with rows `to` as rows `source` were; zero where that is NONE."""
    learned = (source != NONE)[:, None]
    out = dict(arrays)
    for name, array in arrays.items():
        if name.split("/")[0] in ITEM_TABLES:
            out[name] = array.copy()
            out[name][to] = array[source] * learned
    return out


def table_rows(spec: dict[str, Any]) -> dict[str, int]:
    """Rows of every table that grows with a vocabulary (one more than it has words)."""
    rows = dict.fromkeys(ITEM_TABLES, spec["items"])
    rows |= {"types": spec["types"], "copy_types": spec["types"]}
    rows |= {f"attribute_{i}": size for i, size in enumerate(spec["attributes"])}
    rows |= {f"profile_{i}": size for i, size in enumerate(spec["profile"])}
    return {name: size + 1 for name, size in rows.items()}


def _extended(arrays: Arrays, rows: dict[str, int]) -> Arrays:
    out = {}
    for name, array in arrays.items():
        wanted = rows.get(name.split("/")[0], len(array) if array.ndim else 0)
        if array.ndim and len(array) > wanted:
            raise ModelError(
                f"{name} has {len(array)} rows but the vocabulary only {wanted}; {ONLY_GROW}"
            )
        missing = wanted - len(array) if array.ndim else 0
        pad = [(0, missing), *[(0, 0)] * (array.ndim - 1)]
        out[name] = np.pad(array, pad) if missing else array
    return out


def items_table(catalog: Catalog) -> pa.Table:
    width = catalog.attributes.shape[1]
    flat = pa.array(catalog.attributes.reshape(-1))
    stats = catalog.stats.values[-1]
    near = catalog.neighbours or Neighbours.none(catalog.items)
    rows = {} if catalog.rows is None else {"row": pa.array(catalog.rows)}
    if catalog.plans is not None:
        offsets = pa.array(catalog.plans.offsets, pa.int32())
        told = {"planned": catalog.plans.window, "plan": catalog.plans.weight}
        rows |= {name: pa.ListArray.from_arrays(offsets, v) for name, v in told.items()}
    return pa.table(
        {
            **rows,
            "near": _listed(near.items[0], near.items[0] > 0),
            "near_share": _listed(near.share[0], near.items[0] > 0),
            "near_mass": pa.array(near.mass[0]),
            "index": pa.array(np.arange(catalog.items + 1, dtype=np.int32)),
            "id": pa.array(catalog.ids.tolist(), pa.string()),
            "attributes": pa.FixedSizeListArray.from_arrays(flat, width)
            if width
            else pa.nulls(catalog.items + 1, pa.list_(pa.int32())),
            "stats": pa.FixedSizeListArray.from_arrays(pa.array(stats.reshape(-1)), stats.shape[1]),
        }
    )


def _listed(values: NDArray[Any], real: NDArray[np.bool_]) -> pa.Array:
    """Rows of a left-aligned padded matrix as lists."""
    offsets = offsets_of(real.sum(1))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values[real]))


def _padded(table: pa.Table, column: str, kind: type, width: int) -> NDArray[Any]:
    lists = table.column(column).combine_chunks()
    offsets = offsets_of(lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64))
    return pad_right(np.asarray(lists.flatten(), kind), offsets, width, 0)


def _plans(table: pa.Table) -> Plans | None:
    if "planned" not in table.column_names:
        return None
    window, weight = (table.column(n).combine_chunks() for n in ("planned", "plan"))
    lengths = window.value_lengths().to_numpy(zero_copy_only=False)
    return Plans(
        offsets_of(lengths.astype(np.int64)),
        np.asarray(window.flatten(), np.int32),
        np.asarray(weight.flatten(), np.float32),
    )


def _neighbours(table: pa.Table) -> Neighbours:
    lengths = table.column("near").combine_chunks().value_lengths()
    width = max(1, int(np.max(lengths, initial=0)))
    return Neighbours(
        _padded(table, "near", np.int32, width)[None],
        _padded(table, "near_share", np.float32, width)[None],
        np.asarray(table.column("near_mass"), np.float32)[None],
    )


def catalog_text(catalog: Catalog) -> dict[str, Any]:
    """What `catalog_of` needs to know of a catalogue beside its table."""
    return {
        "types": list(catalog.types),
        "sizes": list(catalog.sizes),
        "profile": list(catalog.profile),
        "stats_window": catalog.stats.first + len(catalog.stats.values) - 1,
    }


def catalog_of(table: pa.Table, text: dict[str, Any]) -> Catalog:
    rows, width = len(table), len(text["sizes"])
    stats = np.asarray(table.column("stats").combine_chunks().flatten(), dtype=np.float32)
    attributes = np.zeros((rows, 0), dtype=np.int32)
    if width:
        flat = table.column("attributes").combine_chunks().flatten()
        attributes = np.asarray(flat, dtype=np.int32).reshape(rows, width)
    return Catalog(
        ids=np.asarray(table.column("id").to_pylist(), dtype=np.str_),
        attributes=attributes,
        sizes=tuple(text["sizes"]),
        profile=tuple(text["profile"]),
        types=tuple(text["types"]),
        stats=ItemStats(text["stats_window"], stats.reshape(1, rows, -1)),
        neighbours=_neighbours(table),
        plans=_plans(table),
        rows=np.asarray(table.column("row"), np.int32) if "row" in table.column_names else None,
    )


def manifest_of(root: Path) -> dict[str, Any]:
    """What model.json says, spec and lineage among it. Raises ModelError."""
    advice = "name a folder that training wrote, or models:/NAME@champion"
    return read_manifest(root / MANIFEST, FORMAT, "model folder", advice)


def _npz(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
