"""Peak memory of saving and loading a table in tiers, far larger than what it may take. Run by bench/checkpoint.py.

    python -m recis_core.bench.checkpoint_memory '{"verb": "save", "megabytes": 4096, "directory": "/tmp/x"}'

Prints a JSON object: of "save" after the table was made, of "load" in another process, of a new table. The system's peak is set
back before.

Sizes: R rows of 8 + 4·D bytes and as much again of one slot, D dim.
"""

from __future__ import annotations

import ctypes
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recis_core.bench.cache.memory import Memory
from recis_core.bench.disk import ids_of
from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdagrad
from recis_core.serialize import CheckpointManager, TableBlock, load_rows

D = 64
BLOCK = 1 << 15  # rows that are made at a time
TIER = 16 << 20  # bytes of the device, of the host, and of what the disk keeps mapped
FILE = 16 << 20  # bytes of a file of rows, of which several copies are in memory


def main(given: dict[str, Any]) -> None:
    rows = given["megabytes"] * 1_000_000 // (2 * 4 * D)
    manager = manager_of(Path(given["directory"]), given["verb"])
    if given["verb"] == "save":
        load_rows(manager.contents.tables["f"], made(rows))
        show("save", rows, lambda: manager.save(1))
    else:
        show("load", rows, manager.restore)
        check(manager, rows)
    manager.close()


def manager_of(folder: Path, tiers: str) -> CheckpointManager:
    cache = CacheConfig(
        device_bytes=TIER, host_bytes=TIER, disk=str(folder / tiers), disk_mapped_bytes=TIER, disk_index_bytes=TIER
    )
    engine = EmbeddingEngine({"f": EmbeddingOption(D, backend="numba", cache=cache)})
    manager = CheckpointManager(folder / "checkpoints", None, None, file_bytes=FILE)
    manager.register(model=engine, optimizer=SparseAdagrad(engine.sparse_parameters()))
    return manager


def made(rows: int) -> Iterator[TableBlock]:
    """Rows that tell their number: whole numbers below 2²⁴, and in the slot their negatives."""
    for begin in range(0, rows, BLOCK):
        numbers = np.arange(begin, min(begin + BLOCK, rows))
        yield block_of(numbers)


def block_of(numbers: np.ndarray) -> TableBlock:
    values = torch.from_numpy((numbers % (1 << 24)).astype(np.float32))[:, None].repeat(1, D)
    return TableBlock(torch.from_numpy(ids_of(numbers)), values, {"sum": -values})


def check(manager: CheckpointManager, rows: int) -> None:
    """Raises RuntimeError unless rows drawn over all of the table are there as they were made."""
    numbers = np.random.default_rng(0).choice(rows, min(rows, 10_000), replace=False)
    wanted, table = block_of(numbers), manager.contents.tables["f"]
    found, there = table.lookup(wanted.ids)
    if len(table) != rows or not bool(there.all()) or not torch.equal(found, wanted.rows):
        raise RuntimeError("the table was not loaded as it was saved.")


def show(verb: str, rows: int, call: Callable[[], Any]) -> None:
    ctypes.CDLL(None).malloc_trim(0)  # what making the table has left behind
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back
    memory, ended = Memory(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(memory, ended))
    watcher.start()
    start = time.perf_counter()
    try:
        call()
    finally:
        seconds = time.perf_counter() - start
        ended.set()
        watcher.join()
    size, peaks = rows * 2 * 4 * D, memory.peaks()
    row = {
        "verb": verb, "table_mb": size // 1_000_000, "mb_per_s": size / 1e6 / seconds, "rss_peak": peaks["rss_peak"],
        "anon_peak": peaks["anon_bytes_peak"], "anon_grown": peaks["anon_bytes_grown"],
    }  # fmt: skip
    print(json.dumps(row), flush=True)


def _watch(memory: Memory, ended: threading.Event) -> None:
    while not ended.wait(0.02):
        memory.look()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
