"""What a user of pyarrow and torch.utils.data writes to get batches of tensors from files, and pyarrow's scanner alone.

Sizes: n rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.orc
import pyarrow.parquet
import torch
import xxhash
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from recis_core.bench.reading_files import Workload


def scanner(work: Workload, batch_size: int) -> Iterator[pa.RecordBatch]:
    """pyarrow alone: record batches, decoded on all cores, and no tensors."""
    kind = "orc" if work.files[0].suffix == ".orc" else "parquet"
    data = pyarrow.dataset.dataset([str(file) for file in work.files], format=kind)
    return data.scanner(columns=work.columns, batch_size=batch_size).to_batches()


def by_batches(work: Workload, batch_size: int, workers: int) -> DataLoader[Any]:
    """Record batches turned into tensors column by column."""
    return DataLoader(RecordBatches(work, batch_size), batch_size=None, num_workers=workers)


def by_rows(work: Workload, batch_size: int, workers: int) -> DataLoader[Any]:
    """Rows as dicts, which the DataLoader collates: the form of its documentation."""
    return DataLoader(Rows(work), batch_size=batch_size, num_workers=workers, collate_fn=collated)


def record_batches(files: list[Path], columns: list[str], batch_size: int) -> Iterator[pa.RecordBatch]:
    """Those of this worker's files."""
    info = get_worker_info()
    for file in files if info is None else files[info.id :: info.num_workers]:
        if file.suffix == ".orc":
            yield from pyarrow.orc.ORCFile(file).read(columns=columns).to_batches(max_chunksize=batch_size)
        else:
            yield from pyarrow.parquet.ParquetFile(file).iter_batches(batch_size, columns=columns)


class RecordBatches(IterableDataset[Any]):
    def __init__(self, work: Workload, batch_size: int) -> None:
        self.work, self.batch_size = work, batch_size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in record_batches(self.work.files, self.work.columns, self.batch_size):
            yield {name: tensors_of(batch[name]) for name in self.work.columns}


def tensors_of(column: pa.Array) -> Any:
    """(values, lengths) of lists; ids of text."""
    if pa.types.is_string(column.type):
        return torch.tensor([_id_of(text) for text in column.to_pylist()])
    values, lengths = column.flatten().to_numpy(), column.value_lengths().to_numpy()
    return torch.tensor(values), torch.tensor(lengths)


def _id_of(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode()) - (1 << 63)


class Rows(IterableDataset[Any]):
    def __init__(self, work: Workload) -> None:
        self.work = work

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in record_batches(self.work.files, self.work.columns, 4096):
            yield from batch.to_pylist()


def collated(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, first in rows[0].items():
        column = [row[name] for row in rows]
        if isinstance(first, str):
            found[name] = torch.tensor([_id_of(text) for text in column])
        else:
            values = torch.tensor([value for row in column for value in row])
            found[name] = values, torch.tensor([len(row) for row in column])
    return found
