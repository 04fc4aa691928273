"""python -m bench cache --large: a table of many more rows than memory holds, every row trained; and what a touched row costs.

The table grows by fresh ids, a step a batch. At 10⁵, 10⁶, … rows it rests, and rows drawn over all that there are get further
steps: warm, and after the page cache was dropped. In the end a sample is compared: with a table in memory that got the same
gradients, bit for bit, and with what Adagrad gives in closed form.

Rows that the last steps touched are not drawn again: device and host hold them, and what is measured is a row of the disk. Drawn
over all of 10⁵, a third came from the device.

Sizes: R rows of the table, n of a batch, D dim.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import LookupMode
from recis_core.bench.cache.memory import Memory, disk_read_bytes, drop_page_cache, fill_page_cache
from recis_core.bench.disk import ids_of
from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdagrad
from recis_core.table.disk import DiskStore
from recis_core.table.tiers.tiered_state import TieredState

D = 8
LR = 0.1
BUDGET = 4 << 30  # bytes of memory for caches and indices
FIND = LookupMode(insert=False, touch=False)


@dataclass(frozen=True)
class Sizes:
    """Small caches, so that most touched rows lie on disk at any number of rows."""

    device_bytes: int = 4 << 20
    host_bytes: int = 1 << 20
    mapped_bytes: int | None = None
    batch: int = 1 << 15
    touched: int = 1 << 13  # rows drawn for a batch
    apart: int = 56_000  # rows until one is drawn again: as many as device and host hold
    warm_up: int = 80  # batches of touched rows before those that are timed: as many as it takes to map most pages
    warm: int = 60
    cold: int = 8
    touched_cold: int = 1 << 9  # few, or at 10⁵ rows they lie on all pages, and a page that is read serves four of them
    sample: int = 20_000


def large(rows: int, folder: Path, seed: int, sizes: Sizes | None = None) -> Iterator[dict[str, Any]]:
    """A row for each number of rows at which the table rested, the last with the build's own figures."""
    build = Build(rows, folder, seed, sizes or Sizes())
    for stop in stops(rows):
        build.grow(stop)
        yield {"part": "large", **build.touch()}
    yield {"part": "large", **build.finish()}


def stops(rows: int) -> list[int]:
    """100_000, and ten times as many up to `rows`; `rows` itself."""
    found = [10**k for k in range(5, 12) if 10**k < rows]
    return [*found, rows]


class Trained:
    """One table that gets gradients by row number: ±2^-(number mod 4)."""

    def __init__(self, cache: CacheConfig | None) -> None:
        self.engine = EmbeddingEngine({"f": EmbeddingOption(D, backend="numba", cache=cache)})
        self.table = self.engine.table("f")
        self.optimizer = SparseAdagrad(self.engine.sparse_parameters(), lr=LR)

    def step(self, numbers: np.ndarray) -> None:
        out = self.engine({"f": torch.from_numpy(ids_of(numbers))})["f"]
        out.backward(torch.from_numpy(gradients(numbers)))
        self.optimizer.step()

    def read(self, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
        """(weights, Adagrad's sums), float32 [n, D] each, wherever the rows lie."""
        ids, tables = torch.from_numpy(ids_of(numbers)), torch.zeros(len(numbers), dtype=torch.int32)
        physical, storage = self.table.physical, self.table.physical.storage
        at, _ = storage.lookup(ids, tables, mode=FIND, clock=physical.clock)
        return storage.gather(at, ids, tables), storage.read_slot("sum", at)


def timed(table: Trained, numbers: np.ndarray) -> float:
    """Microseconds a row of one step."""
    start = time.perf_counter()
    table.step(numbers)
    return 1e6 * (time.perf_counter() - start) / len(numbers)


def gradients(numbers: np.ndarray) -> np.ndarray:
    """float32 [n, D]; powers of two, so that sums of their squares are exact."""
    signs = np.where(np.arange(D) % 2, -1, 1)
    return (signs * 0.5 ** (numbers % 4)[:, None]).astype(np.float32)


class Build:
    """The table, and a sample of its rows in another one in memory."""

    def __init__(self, rows: int, folder: Path, seed: int, sizes: Sizes) -> None:
        self.rows, self.folder, self.sizes = rows, folder, sizes
        self.memory = Memory()
        cache = CacheConfig(
            device_bytes=sizes.device_bytes, host_bytes=sizes.host_bytes, disk=str(folder),
            disk_mapped_bytes=sizes.mapped_bytes,
        )  # fmt: skip
        self.trained, self.sampled, self.beside = Trained(cache), Trained(None), Trained(None)
        self.random = np.random.default_rng(seed)
        self.sample = np.unique(self.random.integers(0, rows, min(sizes.sample, rows)))
        self.updates = np.zeros(len(self.sample), np.int64)
        self.initial = self._initial()
        self.built, self.seconds = 0, 0.0
        self.recent = np.zeros(0, np.int64)

    def _initial(self) -> Tensor:
        other = Trained(None)
        with torch.no_grad():
            other.engine({"f": torch.from_numpy(ids_of(self.sample))})
        return other.read(self.sample)[0]

    @property
    def tiers(self) -> TieredState:
        found = self.trained.table.physical.storage.tiers
        if found is None:
            raise TypeError("the table has no tiers.")
        return found

    @property
    def disk(self) -> DiskStore:
        store = self.tiers.lower.disk
        if not isinstance(store, DiskStore):
            raise TypeError(f"a DiskStore was expected below the tiers; got {type(store).__name__}.")
        return store

    def grow(self, stop: int) -> None:
        """Fresh ids, until there are `stop` rows."""
        start, before = time.perf_counter(), self.built
        for beg in range(self.built, stop, self.sizes.batch):
            self._step(np.arange(beg, min(beg + self.sizes.batch, stop)))
        self.built = stop
        self.seconds += time.perf_counter() - start
        rate = (stop - before) / (time.perf_counter() - start)
        print(f"{stop:,} rows, the last {stop - before:,} at {rate:,.0f} a second", file=sys.stderr, flush=True)

    def _step(self, numbers: np.ndarray) -> None:
        """numbers: ascending."""
        self.trained.step(numbers)
        self._note(numbers)

    def _note(self, numbers: np.ndarray) -> None:
        """The same for those of the sample."""
        beg, end = np.searchsorted(self.sample, (numbers[0], numbers[-1] + 1))
        at = beg + np.flatnonzero(np.isin(self.sample[beg:end], numbers, assume_unique=True))
        if len(at):
            self.sampled.step(self.sample[at])
            self.updates[at] += 1
        self.memory.look()

    def touch(self) -> dict[str, Any]:
        """What a step on rows drawn over all those on disk costs a row."""
        for _ in range(self.sizes.warm_up):
            self._timed(self.sizes.touched)
        before = dict(self.tiers.stats.counts)
        touched = self.sizes.touched
        warm, beside = zip(*((self._timed(touched), self._in_memory()) for _ in range(self.sizes.warm)), strict=True)
        shares = self._shares(before)
        cold, read = [], 0
        for _ in range(self.sizes.cold):
            drop_page_cache(self.disk, self.folder)
            at = disk_read_bytes()
            cold.append(self._timed(self.sizes.touched_cold))
            read += disk_read_bytes() - at
        fill_page_cache(self.folder)
        return {
            "op": "touch", "mapped_bytes": self.sizes.mapped_bytes, "rows": self.built, "touched": self.sizes.touched,
            "touched_cold": self.sizes.touched_cold, **shares,
            "warm_us": float(np.median(warm)), "warm_min_us": min(warm),
            "in_memory_us": float(np.median(beside)), "cold_us": float(np.median(cold)),
            "cold_read_bytes_a_row": read / (self.sizes.touched_cold * self.sizes.cold),
        }  # fmt: skip

    def _timed(self, count: int) -> float:
        """Microseconds a row of one step on rows of the disk; the sample's own step is left out."""
        numbers = self._drawn(count)
        microseconds = timed(self.trained, numbers)
        self._note(numbers)
        return microseconds

    def _in_memory(self) -> float:
        """The same of a table of 10⁵ rows in memory, which tells how fast the machine is at the time."""
        return timed(self.beside, np.unique(self.random.integers(0, 100_000, self.sizes.touched)))

    def _drawn(self, count: int) -> np.ndarray:
        """Row numbers, ascending, none of which the last steps touched."""
        others = np.unique(self.random.integers(0, self.built, 4 * count))
        others = others[np.isin(others, self.recent, invert=True)]
        numbers = np.sort(self.random.permutation(others)[:count])
        self.recent = np.concatenate([self.recent, numbers])[-min(self.sizes.apart, self.built * 6 // 10) :]
        return numbers

    def _shares(self, before: dict[str, int]) -> dict[str, float]:
        """Of touched rows, where they lay."""
        counts = self.tiers.stats.counts
        found = {tier: counts[f"hits_{tier}"] - before.get(f"hits_{tier}", 0) for tier in ("device", "host", "disk")}
        return {f"from_{tier}": hits / max(1, sum(found.values())) for tier, hits in found.items()}

    def finish(self) -> dict[str, Any]:
        """The build's rate, sizes and memory, after the sample was compared."""
        self.compare()
        store = self.disk
        store.flush()
        stats = store.stats()
        peaks = self.memory.peaks()
        return {
            "op": "build", "mapped_bytes": self.sizes.mapped_bytes, "rows": self.rows, "dim": D,
            "batch": self.sizes.batch, "seconds": self.seconds,
            "rows_per_s": self.rows / self.seconds, "rows_compared": len(self.sample),
            "device_bytes": self.sizes.device_bytes, "host_bytes": self.sizes.host_bytes,
            "disk_rows": stats["rows"], "disk_bytes_a_row": stats["disk_bytes"] / stats["rows"],
            "index_memory_bytes_a_row": stats["index_memory_bytes"] / stats["rows"],
            "index_disk_bytes_a_row": stats["index_disk_bytes"] / stats["rows"],
            **peaks, "within_budget": peaks["anon_bytes_grown"] <= BUDGET,
        }  # fmt: skip

    def compare(self) -> None:
        """
        Raises:
          AssertionError: a row of the sample is not what its gradients make of it.
        """
        for beg in range(0, len(self.sample), 4096):
            part = slice(beg, beg + 4096)
            numbers = self.sample[part]
            (weights, sums), (want, want_sums) = self.trained.read(numbers), self.sampled.read(numbers)
            if not torch.equal(weights, want) or not torch.equal(sums, want_sums):
                raise AssertionError("rows of the table differ from those of the same training in memory.")
            squares, k = gradients(numbers).astype(np.float64) ** 2, self.updates[part]
            if not np.array_equal(sums.numpy(), squares * k[:, None]):
                raise AssertionError("Adagrad's sums are not k·g².")
            steps = np.array([(1 / np.sqrt(np.arange(1, n + 1))).sum() for n in k])
            expected = self.initial[part].double().numpy() - LR * np.sign(gradients(numbers)) * steps[:, None]
            np.testing.assert_allclose(weights.numpy(), expected, rtol=0, atol=1e-5)
