"""A table in tiers, several times as large as the memory that saving and loading may take beside it.

python -m tests.serialize.checkpoint.large_table DIR ROWS      prints bytes of the table, and peak growth of each phase
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam
from recis_core.serialize import CheckpointManager, TableBlock, load_rows

DIM, BLOCK = 64, 16_384


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def engine_of(disk: Path) -> tuple[EmbeddingEngine, SparseAdam]:
    cache = CacheConfig(device_rows=20_000, host_rows=20_000, disk=str(disk), disk_mapped_bytes=1 << 24)
    engine = EmbeddingEngine({"t": EmbeddingOption(DIM, cache=cache)})
    return engine, SparseAdam(engine.sparse_parameters(), lr=0.1)


def blocks(rows: int) -> Iterator[TableBlock]:
    for begin in range(0, rows, BLOCK):
        ids = torch.arange(begin, min(begin + BLOCK, rows))
        yield TableBlock(ids, ids.float()[:, None].expand(-1, DIM).contiguous())


def main(folder: Path, rows: int) -> None:
    engine, optimizer = engine_of(folder / "disk")
    start, took = peak(), {}
    load_rows(engine.sparse_parameters()["t"], blocks(rows))
    took["fill"] = peak() - start
    manager = CheckpointManager(folder / "ckpt", save=None, file_bytes=1 << 24)
    manager.register(model=engine, optimizer=optimizer)
    manager.save(1)
    manager.close()
    took["save"] = peak() - start
    again, other = engine_of(folder / "again")
    manager = CheckpointManager(folder / "ckpt", save=None)
    manager.register(model=again, optimizer=other)
    manager.restore()
    took["restore"] = peak() - start
    table = again.sparse_parameters()["t"]
    assert len(table) == rows
    ids = torch.tensor([0, rows // 2, rows - 1])
    assert torch.equal(table.lookup(ids)[0][:, 0], ids.float())
    print(rows * DIM * 12, *took.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
