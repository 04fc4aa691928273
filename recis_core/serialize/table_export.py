"""One table as a file that other programs read: Parquet, NumPy's npz, safetensors. Rows are written as they are read.

    Parquet       columns id (int64), vector (fixed_size_list<float>), and one for each slot
    npz           arrays ids [n], rows [n, D], and one for each slot
    safetensors   the same tensors; rows keep their dtype

Sizes: N rows of a block, n of the table, D dim.
"""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recis_core.durable import file_mode
from recis_core.serialize.imports.source import StoredTable
from recis_core.serialize.part_file import NAMES
from recis_core.serialize.table_block import TableBlock

ENDINGS = (".parquet", ".npz", ".safetensors")
RESERVED = ("id", "ids", "vector", "rows")
Progress = Callable[[int], None]


def export_table(
    table: StoredTable, path: Path, slots: Iterable[str] = (), progress: Progress = lambda rows: None
) -> int:
    """Write a table to a new file; its ending says which kind. Returns how many rows.

    Args:
      slots: the optimizer's, to be written beside the rows. progress: is told rows written so far.

    Raises:
      ValueError: another ending, or a slot that the table lacks, or whose name is taken. OSError: the system's error.
    """
    slots = list(slots)
    if path.suffix not in ENDINGS:
        raise ValueError(f"a table is exported to a file that ends in {', '.join(ENDINGS)}; got {path.name}.")
    if wrong := [slot for slot in slots if slot not in table.slots or slot in RESERVED]:
        raise ValueError(
            f"table {table.name!r} has no slot {wrong[0]!r} to export; it has {', '.join(table.slots) or 'none'}."
        )
    path.touch(file_mode(), exist_ok=False)
    if path.suffix == ".parquet":
        return _parquet(table, path, slots, progress)
    return _arrays(table, path, slots, progress)


def _parquet(table: StoredTable, path: Path, slots: list[str], progress: Progress) -> int:
    writer, rows = None, 0
    with ExitStack() as ends:
        for block in table.blocks(non_finite="keep"):
            batch = _batch(block, slots)
            writer = writer or ends.enter_context(pq.ParquetWriter(path, batch.schema))
            writer.write_batch(batch)
            rows += len(block.ids)
            progress(rows)
        if writer is None:
            kinds = [("id", pa.int64()), ("vector", pa.list_(pa.float32(), table.dim))]
            ends.enter_context(pq.ParquetWriter(path, pa.schema(kinds)))
    return rows


def _batch(block: TableBlock, slots: list[str]) -> pa.RecordBatch:
    columns = {"id": pa.array(block.ids.numpy()), "vector": _lists(block.rows)}
    columns |= {slot: _lists(block.slots[slot]) for slot in slots}
    return pa.RecordBatch.from_pydict(columns)


def _lists(values: Tensor) -> pa.Array:
    """Lists of one length; Arrow has no bfloat16, whose numbers float32 holds as they are."""
    flat = values if values.dtype == torch.float64 else values.float()
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.contiguous().numpy().reshape(-1)), values.shape[1])


def _arrays(table: StoredTable, path: Path, slots: list[str], progress: Progress) -> int:
    """Columns go to files without names first, for a file of arrays has one after the other."""
    keep_dtype = path.suffix == ".safetensors"
    with ExitStack() as ends:
        columns: dict[str, _Column] = {}
        for block in table.blocks(non_finite="keep"):
            found = {"ids": block.ids, "rows": block.rows, **{slot: block.slots[slot] for slot in slots}}
            for name, values in found.items():
                if name not in columns:
                    columns[name] = _Column(ends.enter_context(tempfile.TemporaryFile(dir=path.parent)))
                columns[name].add(values if keep_dtype or values.dtype != torch.bfloat16 else values.float())
            progress(columns["ids"].rows)
        for name, values in {"ids": torch.zeros(0, dtype=torch.int64), "rows": torch.zeros(0, table.dim)}.items():
            if name not in columns:
                columns[name] = _Column(ends.enter_context(tempfile.TemporaryFile(dir=path.parent)))
                columns[name].add(values)
        (_safetensors if keep_dtype else _npz)(columns, path)
        return columns["ids"].rows


class _Column:
    """One array, row by row in a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.rows = file, 0
        self.dtype, self.rest = torch.float32, ()  # type: tuple[torch.dtype, tuple[int, ...]]

    def add(self, values: Tensor) -> None:
        self.dtype, self.rest = values.dtype, tuple(values.shape[1:])
        self.rows += len(values)
        if values.numel():
            self.file.write(values.contiguous().view(-1).view(torch.uint8).numpy())

    @property
    def shape(self) -> list[int]:
        return [self.rows, *self.rest]

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def copy_to(self, out: Any) -> None:
        self.file.seek(0)
        shutil.copyfileobj(self.file, out, 1 << 20)


def _npz(columns: dict[str, _Column], path: Path) -> None:
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, column in columns.items():
            kind = np.dtype(str(column.dtype).removeprefix("torch."))
            head = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": tuple(column.shape)}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                np.lib.format.write_array_header_1_0(out, head)
                column.copy_to(out)


def _safetensors(columns: dict[str, _Column], path: Path) -> None:
    ordered = dict(sorted(columns.items(), key=lambda item: -item[1].dtype.itemsize))  # so that each array is aligned
    places, end = {}, 0
    for name, column in ordered.items():
        begin, end = end, end + column.bytes
        places[name] = {"dtype": NAMES[column.dtype], "shape": column.shape, "data_offsets": [begin, end]}
    text = json.dumps(places).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for column in ordered.values():
            column.copy_to(out)
