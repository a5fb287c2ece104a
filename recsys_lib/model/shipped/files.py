"""Tables of a serving bundle as Arrow and Parquet files, packed closely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_lib.errors import ModelError
from recsys_lib.model.bundle import Arrays
from recsys_lib.model.shipped.rows import Rows

ZSTD = pa.ipc.IpcWriteOptions(compression="zstd")
OCTAVE = 12.0
"""Shares of neighbours are kept in twelfths of a factor of two: within 3 %."""


def write_arrow(path: Path, table: pa.Table) -> None:
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_file(file, table.schema, options=ZSTD) as out,
    ):
        out.write_table(table)


def read_arrow(path: Path) -> pa.Table:
    try:
        with pa.OSFile(str(path)) as file:
            return pa.ipc.open_file(file).read_all()
    except pa.ArrowInvalid as error:
        raise ModelError(f"{path} cannot be read ({error}); fetch the model again") from None


def rows_of(table: pa.Table) -> Rows:
    vector = table.column("vector").combine_chunks()
    flat = np.asarray(vector.flatten())
    values = flat.reshape(len(table), -1)
    scaled = "scale" in table.column_names
    return Rows(values, np.asarray(table.column("scale"), np.float32) if scaled else None)


def arrays_table(tables: dict[str, Rows], weights: Arrays) -> pa.Table:
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


def arrays_of(table: pa.Table) -> tuple[dict[str, Rows], Arrays]:
    arrays: dict[str, NDArray[Any]] = {}
    for field in table.schema:
        content = table.column(field.name)[0].as_py()
        shape = json.loads(field.metadata[b"shape"])
        kind = field.metadata[b"type"].decode()
        arrays[field.name] = np.frombuffer(content, kind).reshape(shape)
    names = [name.split("|")[0] for name in arrays if name.endswith("|values")]
    tables = {n: Rows(arrays[f"{n}|values"], arrays.get(f"{n}|scale")) for n in names}
    return tables, {name: array for name, array in arrays.items() if "|" not in name}


def write_catalog(table: pa.Table, path: Path, exact: bool) -> None:
    """Neighbours stand by item and id, as whole numbers that only rise: differences are small."""
    near, share = table.column("near").combine_chunks(), table.column("near_share").combine_chunks()
    keys = _keys(near)
    order = np.argsort(keys)
    values = np.asarray(share.flatten(), np.float32)[order]
    code = np.clip(np.rint(-np.log2(np.maximum(values, 1e-9)) * OCTAVE), 0, 255).astype(np.uint8)
    flat = pa.table({"near": pa.array(keys[order]), "near_share": values if exact else code})
    table = table.drop_columns(["near", "near_share", "index", "id"])
    if not exact:
        stats = table.column("stats").combine_chunks()
        half = np.asarray(stats.flatten(), np.float16).astype(np.float32)
        small = pa.FixedSizeListArray.from_arrays(pa.array(half), stats.type.list_size)
        table = table.set_column(table.column_names.index("stats"), "stats", small)
    packed = {"compression": "zstd", "compression_level": 9}
    pq.write_table(table, path, **packed)
    pq.write_table(
        flat,
        _beside(path),
        use_dictionary=["near_share"],
        column_encoding={"near": "DELTA_BINARY_PACKED"},
        **packed,
    )


def read_catalog(path: Path, vectors: pa.Table) -> pa.Table:
    """What `write_catalog` was given; ids are those of the vectors."""
    table, flat = pq.read_table(path), pq.read_table(_beside(path))
    share = np.asarray(flat.column("near_share"))
    if share.dtype == np.uint8:
        share = np.exp2(-share.astype(np.float32) / OCTAVE)
    rows = len(table)
    row, item = np.divmod(np.asarray(flat.column("near")), rows)
    offsets = pa.array(np.searchsorted(row, np.arange(rows + 1)).astype(np.int32))
    for name, values in (("near", item.astype(np.int32)), ("near_share", share)):
        lists = pa.ListArray.from_arrays(offsets, pa.array(values))
        table = table.append_column(name, lists)
    return table.append_column("id", vectors.column("id"))


def _keys(near: pa.ListArray) -> NDArray[np.int64]:
    """Item times the number of items, and neighbour: int64."""
    sizes = np.asarray(near.value_lengths()).astype(np.int64)
    row = np.repeat(np.arange(len(near), dtype=np.int64), sizes)
    return row * len(near) + np.asarray(near.flatten()).astype(np.int64)


def _beside(path: Path) -> Path:
    return path.with_name(f"near.{path.name}")
