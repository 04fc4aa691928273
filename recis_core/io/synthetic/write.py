"""Writes the click log to files that the readers can read.

Sizes: n samples.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet

from recis_core.io.synthetic.clicks import SyntheticClicks
from recis_core.ragged import RaggedTensor

WEIGHT_SUFFIX = "_weight"  # a weighted field's second column


def write_parquet(
    clicks: SyntheticClicks, path: str | os.PathLike[str], rows: int, *, start: int = 0, row_group: int = 65_536
) -> None:
    """Samples start .. start + rows as Parquet: label and p double, fields list<int64>, weights list<float>."""
    tables = _tables(clicks, start, rows, row_group)
    first = next(tables)
    with pyarrow.parquet.ParquetWriter(os.fspath(path), first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def write_orc(
    clicks: SyntheticClicks, path: str | os.PathLike[str], rows: int, *, start: int = 0, stripe: int = 65_536
) -> None:
    """The same as ORC. `stripe` is how many samples are written at once; ORC ends a stripe by its size in bytes."""
    with pyarrow.orc.ORCWriter(os.fspath(path), compression="zstd") as writer:
        for table in _tables(clicks, start, rows, stripe):
            writer.write(table)


def _tables(clicks: SyntheticClicks, start: int, rows: int, at_once: int) -> Iterator[pa.Table]:
    if rows < 1 or at_once < 1:
        raise ValueError(f"rows, and rows written at once, must be at least 1; got {rows} and {at_once}.")
    for begin in range(start, start + rows, at_once):
        yield _table(clicks, begin, min(at_once, start + rows - begin))


def _table(clicks: SyntheticClicks, start: int, n: int) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for name, value in clicks.batch(start, n).items():
        if not isinstance(value, RaggedTensor):
            columns[name] = pa.array(value.double().numpy())
            continue
        offsets = pa.array(value.offsets()[0].int().numpy())
        columns[name] = pa.ListArray.from_arrays(offsets, pa.array(value.values().numpy()))
        weight = value.weight()
        if weight is not None:
            columns[name + WEIGHT_SUFFIX] = pa.ListArray.from_arrays(offsets, pa.array(weight.numpy()))
    return pa.table(columns)
