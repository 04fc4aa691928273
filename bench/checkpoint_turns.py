"""Saves and loads of one table in memory, each way in turn; and a delta.

Sizes: R rows, D dim.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
import xxhash
from torch import Tensor

from recis_core.backends.memory import zeroed
from recis_core.bench.disk import drop_cache, ids_of
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam
from recis_core.serialize import (
    CheckpointManager,
    DeltaPolicy,
    KeepLast,
    KeepPolicy,
    arrays_source,
    load_tables_from,
    open_checkpoint,
)

DISK_WRITE, DISK_READ = "the disk, written in order", "the disk, read in order"
SAVE, LOAD, STALL = "ours, save", "ours, load", "ours, in the background: the stall"
STEP, LOST = "a step of training", "ours, in the background: the stall, and what the next step takes longer"
DONE = "ours, in the background: until durable"
REMOVED = "ours, after a save: until the files of the one before are removed"
COPY = "the bytes, copied in memory"
WRITE_HASHED, READ_HASHED = "the disk, written and hashed", "the disk, read into new memory and hashed"
DCP_SAVE, DCP_LOAD = "torch dcp.save", "torch dcp.load"
FETCHED, DCP_FETCHED = "ours, load; free memory not made ready", "torch dcp.load; free memory not made ready"
PIECE = 1 << 23  # bytes of a write or read of the disk
BATCH = 4096  # ids of a step

Seconds = dict[str, float]


class Trained:
    """A table of R rows with Adam's slots, all of random numbers."""

    def __init__(self, rows: int, dim: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.ids = torch.from_numpy(ids_of(np.arange(rows)))
        self.engine = EmbeddingEngine({"f": EmbeddingOption(dim)})
        self.optimizer = SparseAdam(self.engine.sparse_parameters())
        weights, m, v = (torch.rand(rows, dim, generator=generator) for _ in range(3))
        load_tables_from(arrays_source("f", self.ids, weights, slots={"m": m, "v": v}), self.engine)

    def arrays(self) -> dict[str, Tensor]:
        """What the table holds, for torch's checkpoint: the same bytes."""
        snapshot = self.engine.table("f").snapshot()
        return {"ids": snapshot.ids, "rows": snapshot.weights, **snapshot.slots}

    def train(self, ids: Tensor) -> None:
        self.engine({"f": ids})["f"].sum().backward()
        self.optimizer.step()

    def manager(self, directory: Path, keep: KeepPolicy | None, **options: Any) -> CheckpointManager:
        manager = CheckpointManager(directory, None, keep, **options)
        manager.register(model=self.engine, optimizer=self.optimizer)
        return manager


def turns(folder: Path, rows: int, dim: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """A row a way: medians over rounds, after one round that is not timed.

    Raises:
      RuntimeError: a load gave other rows than were saved.
    """
    case = Case(folder, Trained(rows, dim, seed), seed)
    case.check()
    rounds = [case.round() for _ in range(1 + repeats)][1:]
    case.close()
    return [_row(way, case.bytes, rounds) for way in rounds[0]]


class Case:
    def __init__(self, folder: Path, trained: Trained, seed: int = 0) -> None:
        rows = len(trained.ids)
        self.folder, self.trained, self.step = folder, trained, 0
        self.direct = trained.manager(folder / "direct", KeepLast(1), asynchronous=False)
        self.behind = trained.manager(folder / "behind", KeepLast(1), asynchronous=True)
        self.arrays = trained.arrays()
        self.bytes = sum(array.nbytes for array in self.arrays.values())
        self.block = memoryview(bytearray(os.urandom(PIECE)))
        self.batches = np.random.default_rng(seed).integers(0, rows, (1000, BATCH))
        self.copy = {name: torch.empty_like(array) for name, array in self.arrays.items()}

    def check(self) -> None:
        """Each way gives back what was saved."""
        before = self.arrays
        self.round()
        self.trained.train(self.trained.ids[:1000])
        self.direct.restore()
        after = self.trained.arrays()
        for name, array in before.items():
            if not torch.equal(after[name], array) or not torch.equal(self.loaded[name], array):
                raise RuntimeError(f"{name} was not loaded as it was saved.")

    def round(self) -> Seconds:
        """Seconds of each way, in a fixed order."""
        self.step += 1
        ways: dict[str, Callable[[], None]] = {
            COPY: self.copy_all, DISK_WRITE: self.write, WRITE_HASHED: lambda: self.write(hashed=True),
            SAVE: lambda: self._saved(self.direct), DCP_SAVE: self.dcp_save,
            DISK_READ: self.read, READ_HASHED: self.read_new, LOAD: lambda: self._restored(self.direct),
            DCP_LOAD: self.dcp_load,
        }  # fmt: skip
        found: Seconds = {}
        for way, call in ways.items():
            self._ready()
            found[way] = _seconds(call)
            if way == SAVE:
                found[REMOVED] = _seconds(self.direct.wait)
        for way, call in ((FETCHED, ways[LOAD]), (DCP_FETCHED, self.dcp_load)):
            drop_cache(self.folder)
            found[way] = _seconds(call)
        self._ready()
        found[STEP] = _seconds(self.train)
        start = time.perf_counter()
        found[STALL] = _seconds(lambda: self._saved(self.behind))
        found[LOST] = found[STALL] + _seconds(self.train) - found[STEP]
        self.behind.wait()
        found[DONE] = time.perf_counter() - start
        return found

    def _ready(self) -> None:
        """Nothing in the page cache; and memory for new arrays with the system, not with the host of a virtual machine."""
        drop_cache(self.folder)
        touch_free_memory(4 * self.bytes)

    def train(self) -> None:
        batch, self.batches = self.batches[0], np.roll(self.batches, -1, 0)
        self.trained.train(self.trained.ids[torch.from_numpy(batch)])

    def _saved(self, manager: CheckpointManager) -> None:
        manager.save(self.step)

    def _restored(self, manager: CheckpointManager) -> None:
        manager.restore()

    def copy_all(self) -> None:
        """Into memory that is there: what a copy takes at least."""
        for name, array in self.arrays.items():
            self.copy[name].copy_(array)

    def write(self, hashed: bool = False) -> None:
        """hashed: as our files are, whole and by section; on one thread."""
        digests = (xxhash.xxh3_128(), xxhash.xxh3_64()) if hashed else ()
        with open(self.folder / "plain", "wb", buffering=0) as file:
            for begin in range(0, self.bytes, PIECE):
                block = self.block[: min(PIECE, self.bytes - begin)]
                for digest in digests:
                    digest.update(block)
                file.write(block)
            os.fsync(file.fileno())

    def read(self) -> None:
        with open(self.folder / "plain", "rb", buffering=0) as file:
            while file.readinto(self.block):
                pass

    def read_new(self) -> None:
        """What a load that trusts no byte takes at least, on one thread, before rows go into a table."""
        into, digest = memoryview(bytearray(self.bytes)), xxhash.xxh3_128()
        with open(self.folder / "plain", "rb", buffering=0) as file:
            for begin in range(0, self.bytes, PIECE):
                block = into[begin : begin + PIECE]
                file.readinto(block)
                digest.update(block)

    def dcp_save(self) -> None:
        shutil.rmtree(self.folder / "dcp", ignore_errors=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
            dcp.save(dict(self.arrays), checkpoint_id=self.folder / "dcp")

    def dcp_load(self) -> None:
        self.loaded = {name: torch.empty_like(array) for name, array in self.arrays.items()}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
            dcp.load(self.loaded, checkpoint_id=self.folder / "dcp")

    def close(self) -> None:
        self.direct.close()
        self.behind.close()


def touch_free_memory(size: int) -> None:
    """Write to so many bytes that are given back at once.

    A guest gives memory that was free for seconds back to its host, and the first byte that is written there again takes
    longer than one read from the disk. That is the host's time, and comes by chance.
    """
    zeroed((size,), np.dtype(np.uint8))[::4096] = 1


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _row(way: str, size: int, rounds: list[Seconds]) -> dict[str, Any]:
    """Ratios are medians over rounds of what stood beside one another in each."""
    reads = way in (LOAD, DCP_LOAD, DISK_READ, READ_HASHED, FETCHED, DCP_FETCHED)
    disk, peer = (DISK_READ, DCP_LOAD) if reads else (DISK_WRITE, DCP_SAVE)
    seconds = [each[way] for each in rounds]

    def against(other: str) -> float:
        return statistics.median(each[other] / each[way] for each in rounds)

    return {
        "way": way, "mb": size / 1e6, "ms": 1e3 * statistics.median(seconds), "ms_min": 1e3 * min(seconds),
        "mb_per_s": size / 1e6 / statistics.median(seconds), "of_disk": against(disk), "of_dcp": against(peer),
        "of_save": 1 / against(SAVE), "repeats": len(rounds),
    }  # fmt: skip


def delta(folder: Path, rows: int, dim: int, touched: float, seed: int) -> dict[str, Any]:
    """Bytes of a delta after a step on a share of the rows, against those of the full checkpoint before.

    Raises:
      RuntimeError: the checkpoint is no delta, or gives other rows than the table has.
    """
    trained = Trained(rows, dim, seed)
    manager = trained.manager(folder / "deltas", None, asynchronous=False, delta=DeltaPolicy(every_full=10))
    manager.save(1)
    trained.train(trained.ids[torch.randperm(rows)[: int(rows * touched)]])
    manager.save(2)
    found, base = open_checkpoint(folder / "deltas"), open_checkpoint(folder / "deltas" / "step-00000001")
    if found.kind != "delta":
        raise RuntimeError(f"{found.path} is {found.kind}; wanted a delta.")
    blocks = list(found.blocks("f"))
    ids, order = torch.cat([block.ids for block in blocks]).sort()
    arrays = trained.arrays()
    if not torch.equal(ids, arrays["ids"]) or not torch.equal(
        torch.cat([b.rows for b in blocks])[order], arrays["rows"]
    ):
        raise RuntimeError("the delta with its base gives other rows than the table has.")
    share = _size(found.path) / _size(base.path)
    manager.close()
    return {"fact": f"a delta of {touched:.0%} touched rows: share of the full bytes", "value": share, "goal": 0.03,
            "met": share <= 0.03, "detail": f"{_size(found.path):,} bytes"}  # fmt: skip


def _size(path: Any) -> int:
    return sum(file.stat().st_size for file in Path(path).iterdir())
