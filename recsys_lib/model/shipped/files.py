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


def read_catalog(path: Path, vectors: pa.Table) -> pa.Table:
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
