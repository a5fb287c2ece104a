"""The serving bundle on disk: what answers requests, and nothing that learns.

serving.json     sizes, lineage, vocabulary version, and a hash of every other file
encoder.tflite   the function of one request (LiteRT); saved_model/ is the same for TensorFlow
vectors.arrow    item id, vector and biases of each index
tables.arrow     one column for each small table or weight, as bytes with shape and type
catalog.parquet  attributes, statistics, neighbours and plans of each index
golden.arrow     some histories, and the answers that were given to them
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys_lib.errors import ModelError
from recsys_lib.model.bundle import Arrays, catalog_of, catalog_text, items_table
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.folder import check_files, digest_of, read_manifest, whole_folder
from recsys_lib.model.shipped.encoder import LITERT, SAVED
from recsys_lib.model.shipped.files import (
    arrays_of,
    arrays_table,
    read_arrow,
    read_catalog,
    rows_of,
    write_arrow,
    write_catalog,
)
from recsys_lib.model.shipped.golden import Golden
from recsys_lib.model.shipped.rows import Rows, padded

FORMAT = 4
FOLDER, MANIFEST = "serving", "serving.json"
VECTORS, TABLES, CATALOG, GOLDEN = (
    "vectors.arrow",
    "tables.arrow",
    "catalog.parquet",
    "golden.arrow",
)


@dataclass(frozen=True)
class Shipped:
    """spec, task, ... as in `Bundle`; `form` as in ModelVersion.

    encoder   content of encoder.tflite; `saved` is the folder of the SavedModel
    vectors   one row for each item index, attributes included
    biases    float32 [N + 1, 2]: of the item, of its copying
    tables    embedding tables by name (types, positions, attribute_0, ...)
    weights   what else is needed of the network, by variable name
    typical   float32 [stats + 1]: the mean user's weights of statistics and item bias
    search    {"ann_items": ...}
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
        with whole_folder(Path(folder)) as part:
            (part / LITERT).write_bytes(self.encoder)
            shutil.copytree(self.saved, part / SAVED)
            write_arrow(part / VECTORS, self._vectors_table())
            weights = {**self.weights, "typical": self.typical}
            write_arrow(part / TABLES, arrays_table(self.tables, weights))
            exact = self.vectors.scale is None
            write_catalog(items_table(self.catalog), part / CATALOG, exact=exact)
            if self.golden is not None:
                write_arrow(part / GOLDEN, self.golden.table())
            files = sorted(f.relative_to(part).as_posix() for f in part.rglob("*") if f.is_file())
            text = {
                "format": FORMAT,
                **{name: getattr(self, name) for name in PLAIN},
                "targets": list(self.targets),
                **catalog_text(self.catalog),
                "files": {name: digest_of(part / name) for name in files},
            }
            (part / MANIFEST).write_text(json.dumps(text, indent=1, default=list))

    @classmethod
    def load(cls, folder: str | Path) -> Shipped:
        """Read and check a folder. Raises ModelError with what is wrong with it."""
        root = Path(folder)
        text = read_manifest(
            root / MANIFEST, FORMAT, "serving bundle", "name a version that was exported"
        )
        check_files(root, text["files"])
        vectors = read_arrow(root / VECTORS)
        found = (vectors.schema.metadata or {}).get(b"vocabulary_version", b"").decode()
        if found != str(text["vocabulary_version"]):
            raise ModelError(
                f"{root}: vectors must be those of vocabulary {text['vocabulary_version']}, got "
                f"{found or 'none'}; the files are of different versions: fetch the model again"
            )
        tables, weights = arrays_of(read_arrow(root / TABLES))
        typical = weights.pop("typical")
        catalog = catalog_of(read_catalog(root / CATALOG, vectors), text)
        golden = Golden.of(read_arrow(root / GOLDEN)) if GOLDEN in text["files"] else None
        return cls(
            **{name: text[name] for name in PLAIN},
            targets=tuple(text["targets"]),
            encoder=(root / LITERT).read_bytes(),
            saved=root / SAVED,
            vectors=rows_of(vectors),
            biases=np.stack([np.asarray(vectors.column(n), np.float32) for n in BIASES], 1),
            tables=tables,
            weights=weights,
            typical=typical,
            catalog=catalog,
            golden=golden,
        )

    def grown(self, catalog: Catalog) -> Shipped:
        """The same model for a newer catalogue. New items, and those whose attributes have
        changed, get their vectors from the attribute tower: nothing is exported again. New words
        have zero rows. Raises ModelError for a catalogue of another shop."""
        catalog.check_follows(self.catalog)
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
        types = len(catalog.types)
        rows = {"types": types, **{f"profile_{i}": n + 1 for i, n in enumerate(catalog.profile)}}
        return replace(
            self,
            vectors=vectors,
            biases=biases,
            tables={name: table.padded(rows.get(name, 0)) for name, table in self.tables.items()},
            weights={**self.weights, COPY_TYPES: padded(self.weights[COPY_TYPES], types)},
            catalog=replace(catalog, stats=catalog.stats.narrowed(self.spec["stats"])),
        )

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
COPY_TYPES = "copy_types/embeddings"
