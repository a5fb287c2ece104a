"""The serving bundle on disk: what answers requests, and nothing that learns.

serving.json     sizes, lineage, vocabulary version, and a hash of every other file
encoder.tflite   the function of one request (LiteRT); saved_model/ is the same for TensorFlow
vectors.arrow    item id, vector and biases of each index
tables.arrow     one column for each small table or weight, as bytes with shape and type
catalog.parquet  attributes, statistics and neighbours of each index
golden.arrow     some histories, and the answers that were given to them
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_lib.errors import ModelError
from recsys_lib.model.bundle import Arrays, catalog_of, digest_of, items_table
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.shipped.encoder import LITERT, SAVED
from recsys_lib.model.shipped.golden import Golden
from recsys_lib.model.shipped.rows import Rows

FORMAT = 1
FOLDER, MANIFEST = "serving", "serving.json"
VECTORS, TABLES, CATALOG, GOLDEN = (
    "vectors.arrow",
    "tables.arrow",
    "catalog.parquet",
    "golden.arrow",
)
ZSTD = pa.ipc.IpcWriteOptions(compression="zstd")


@dataclass(frozen=True)
class Shipped:
    """spec, task, ... as in `Bundle`; `form` as in ModelVersion.

    encoder   content of encoder.tflite; `saved` is the folder of the SavedModel
    vectors   one row for each item index, attributes included
    biases    float32 [N + 1, 2]: of the item, of its copying
    tables    embedding tables by name (types, positions, attribute_0, ...)
    weights   what else is needed of the network, by variable name
    typical   float32 [stats + 1]: the mean user's weights of statistics and item bias
    search    {"ann_items": ..., "rerank": ...}
    """

    spec: dict[str, Any]
    form: str
    task: str
    targets: tuple[str, ...]
    learned: int
    decay: float
    copy_items: int
    lineage: dict[str, Any]
    vocabulary_version: int
    search: dict[str, int]
    encoder: bytes
    saved: Path
    vectors: Rows
    biases: NDArray[np.float32]
    tables: dict[str, Rows]
    weights: Arrays
    typical: NDArray[np.float32]
    catalog: Catalog
    golden: Golden | None = None

    def save(self, folder: str | Path) -> None:
        """Write the folder whole or not at all; an older one of that name is replaced."""
        target = Path(folder)
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        (part / LITERT).write_bytes(self.encoder)
        shutil.copytree(self.saved, part / SAVED)
        _write(part / VECTORS, self._vectors_table())
        _write(part / TABLES, _tables(self.tables, {**self.weights, "typical": self.typical}))
        _write_catalog(items_table(self.catalog), part / CATALOG, exact=self.vectors.scale is None)
        if self.golden is not None:
            _write(part / GOLDEN, self.golden.table())
        files = sorted(f.relative_to(part).as_posix() for f in part.rglob("*") if f.is_file())
        text = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in PLAIN},
            "targets": list(self.targets),
            "types": list(self.catalog.types),
            "sizes": list(self.catalog.sizes),
            "profile": list(self.catalog.profile),
            "stats_window": self.catalog.stats.first + len(self.catalog.stats.values) - 1,
            "files": {name: digest_of(part / name) for name in files},
        }
        (part / MANIFEST).write_text(json.dumps(text, indent=1, default=list))
        if target.exists():
            shutil.rmtree(target)
        os.replace(part, target)

    @classmethod
    def load(cls, folder: str | Path) -> Shipped:
        """Read and check a folder. Raises ModelError with what is wrong with it."""
        root = Path(folder)
        text = _manifest(root)
        for name, digest in text["files"].items():
            if not (root / name).is_file():
                raise ModelError(f"{root} must hold {name}; it is missing: fetch the model again")
            if digest_of(root / name) != digest:
                raise ModelError(f"{root / name} is damaged (its hash differs); fetch it again")
        vectors = _read(root / VECTORS)
        found = (vectors.schema.metadata or {}).get(b"vocabulary_version", b"").decode()
        if found != str(text["vocabulary_version"]):
            raise ModelError(
                f"{root}: vectors must be those of vocabulary {text['vocabulary_version']}, got "
                f"{found or 'none'}; the files are of different versions: fetch the model again"
            )
        tables, weights = _untabled(_read(root / TABLES))
        typical = weights.pop("typical")
        catalog = catalog_of(_read_catalog(root / CATALOG, vectors), text)
        golden = Golden.of(_read(root / GOLDEN)) if GOLDEN in text["files"] else None
        return cls(
            **{name: text[name] for name in PLAIN},
            targets=tuple(text["targets"]),
            encoder=(root / LITERT).read_bytes(),
            saved=root / SAVED,
            vectors=_rows(vectors),
            biases=np.stack([np.asarray(vectors.column(n), np.float32) for n in BIASES], 1),
            tables=tables,
            weights=weights,
            typical=typical,
            catalog=catalog,
            golden=golden,
        )

    def grown(self, catalog: Catalog) -> Shipped:
        """The same model for a newer catalogue. New items, and those whose attributes have
        changed, get their vectors from the attribute tower: nothing is exported again."""
        if catalog.items < self.catalog.items:
            raise ModelError(
                f"the shop must know the model's {self.catalog.items} items, got {catalog.items}: "
                "vocabularies never shrink; use the tables that it was made with, or newer ones"
            )
        if catalog.attributes.shape[1] != self.catalog.attributes.shape[1]:
            raise ModelError(
                f"items must have the model's {self.catalog.attributes.shape[1]} attributes, got "
                f"{catalog.attributes.shape[1]}; map the same columns"
            )
        old = len(self.vectors)
        vectors, biases = self.vectors, self.biases
        changed = np.flatnonzero((catalog.attributes[:old] != self.catalog.attributes).any(1))
        if len(changed):
            before = self.tower(self.catalog.attributes[changed])
            moved = self.tower(catalog.attributes[changed]) - before
            vectors = vectors.replaced(changed, vectors.take(changed) + moved)
        if catalog.items >= old:
            vectors = vectors.extended(self.tower(catalog.attributes[old:]))
            biases = np.concatenate([biases, np.zeros((catalog.items + 1 - old, 2), np.float32)])
        return replace(self, vectors=vectors, biases=biases, catalog=catalog)

    def tower(self, attributes: NDArray[np.int32]) -> NDArray[np.float32]:
        """What attributes [R, A] alone say of an item: its vector, if it was never learned."""
        size = self.spec["embedding_size"]
        total = np.zeros((len(attributes), size), np.float32)
        if not attributes.shape[1]:
            return total
        for i in range(attributes.shape[1]):
            table = self.tables[f"attribute_{i}"]
            known = attributes[:, i] < len(table)  # words that came later say nothing yet
            total += table.take(np.where(known, attributes[:, i], 0)) * known[:, None]
        w = self.weights
        hidden = np.maximum(total @ w["attribute_hidden/kernel"] + w["attribute_hidden/bias"], 0)
        return total + hidden @ w["attribute_out/kernel"] + w["attribute_out/bias"]

    def _vectors_table(self) -> pa.Table:
        size = self.vectors.values.shape[1]
        flat = pa.array(self.vectors.values.reshape(-1))
        kind = np.float32 if self.vectors.scale is None else np.float16
        columns = {
            "id": pa.array(self.catalog.ids.tolist(), pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, size),
            **{n: pa.array(self.biases[:, i].astype(kind)) for i, n in enumerate(BIASES)},
        }
        if self.vectors.scale is not None:
            columns["scale"] = pa.array(self.vectors.scale)
        mark = {"vocabulary_version": str(self.vocabulary_version)}
        return pa.table(columns).replace_schema_metadata(mark)


PLAIN = (
    "spec",
    "form",
    "task",
    "learned",
    "decay",
    "copy_items",
    "lineage",
    "vocabulary_version",
    "search",
)
BIASES = ("bias", "copy_bias")
OCTAVE = 12.0
"""Shares of neighbours are kept in twelfths of a factor of two: within 3 %."""


def _manifest(root: Path) -> dict[str, Any]:
    try:
        text = json.loads((root / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{root} must be a serving bundle with a readable {MANIFEST} ({error}); "
            "name a version that was exported"
        ) from None
    if text.get("format") != FORMAT:
        raise ModelError(
            f"{root}: format must be {FORMAT}, got {text.get('format')}; "
            "use the release that wrote it"
        )
    return dict(text)


def _write(path: Path, table: pa.Table) -> None:
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_file(file, table.schema, options=ZSTD) as out,
    ):
        out.write_table(table)


def _read(path: Path) -> pa.Table:
    try:
        with pa.OSFile(str(path)) as file:
            return pa.ipc.open_file(file).read_all()
    except pa.ArrowInvalid as error:
        raise ModelError(f"{path} cannot be read ({error}); fetch the model again") from None


def _rows(table: pa.Table) -> Rows:
    vector = table.column("vector").combine_chunks()
    flat = np.asarray(vector.flatten())
    values = flat.reshape(len(table), -1)
    scaled = "scale" in table.column_names
    return Rows(values, np.asarray(table.column("scale"), np.float32) if scaled else None)


def _tables(tables: dict[str, Rows], weights: Arrays) -> pa.Table:
    """Each array is one value: its bytes; shape and type are the column's metadata."""
    named: dict[str, NDArray[Any]] = dict(weights)
    for name, rows in tables.items():
        named[f"{name}|values"] = rows.values
        if rows.scale is not None:
            named[f"{name}|scale"] = rows.scale
    fields, columns = [], []
    for name, array in named.items():
        mark = {"shape": json.dumps(list(array.shape)), "type": array.dtype.name}
        fields.append(pa.field(name, pa.large_binary(), metadata=mark))
        columns.append(pa.array([np.ascontiguousarray(array).tobytes()], pa.large_binary()))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _untabled(table: pa.Table) -> tuple[dict[str, Rows], Arrays]:
    arrays: dict[str, NDArray[Any]] = {}
    for field in table.schema:
        content = table.column(field.name)[0].as_py()
        shape = json.loads(field.metadata[b"shape"])
        kind = field.metadata[b"type"].decode()
        arrays[field.name] = np.frombuffer(content, kind).reshape(shape)
    names = [name.split("|")[0] for name in arrays if name.endswith("|values")]
    tables = {n: Rows(arrays[f"{n}|values"], arrays.get(f"{n}|scale")) for n in names}
    return tables, {name: array for name, array in arrays.items() if "|" not in name}


def _write_catalog(table: pa.Table, path: Path, exact: bool) -> None:
    """Neighbours stand by id, so that differences are small."""
    near, share = table.column("near").combine_chunks(), table.column("near_share").combine_chunks()
    offsets, ids = near.offsets, np.asarray(near.flatten()).astype(np.int64)
    row = np.repeat(np.arange(len(near)), np.diff(np.asarray(offsets)))
    order = np.lexsort((ids, row))
    values = np.asarray(share.flatten(), np.float32)[order]
    code = np.clip(np.rint(-np.log2(np.maximum(values, 1e-9)) * OCTAVE), 0, 255).astype(np.uint8)
    coded = pa.array(values if exact else code)
    table = table.drop_columns(["near", "near_share", "index", "id"])
    table = table.append_column(
        "near_size", pa.array(np.diff(np.asarray(offsets)).astype(np.int32))
    )
    flat = pa.table({"near": pa.array(ids[order].astype(np.int32)), "near_share": coded})
    if not exact:
        stats = table.column("stats").combine_chunks()
        width = stats.type.list_size
        small = pa.array(
            np.asarray(stats.flatten(), np.float32).astype(np.float16).astype(np.float32)
        )
        place = table.column_names.index("stats")
        table = table.set_column(place, "stats", pa.FixedSizeListArray.from_arrays(small, width))
    pq.write_table(table, path, compression="zstd", compression_level=9)
    packed = {"near": "DELTA_BINARY_PACKED"}
    pq.write_table(
        flat,
        path.with_name(f"near.{path.name}"),
        compression="zstd",
        compression_level=9,
        use_dictionary=["near_share"],
        column_encoding=packed,
    )


def _read_catalog(path: Path, vectors: pa.Table) -> pa.Table:
    table = pq.read_table(path)
    flat = pq.read_table(path.with_name(f"near.{path.name}"))
    share = np.asarray(flat.column("near_share"))
    if share.dtype == np.uint8:
        share = np.exp2(-share.astype(np.float32) / OCTAVE)
    sizes = np.asarray(table.column("near_size"))
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    ids = flat.column("near").combine_chunks()
    table = table.append_column("near", pa.ListArray.from_arrays(offsets, ids))
    shares = pa.ListArray.from_arrays(offsets, pa.array(share.astype(np.float32)))
    return table.append_column("near_share", shares).append_column("id", vectors.column("id"))
