"""Training of an engine with tiers or without, and what is compared after it.

Sizes: B bags of a batch, D dim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption, Prefetcher
from recis_core.optim import SparseAdam, SparseOptimizer
from recis_core.table.tiers.planned_calls import PlannedCall, digest_of, unique_keys
from recis_core.table.tiers.tiered_state import TieredState
from tests.contract.compare import assert_same
from tests.training.loop import Batch, Loss, loss_of, train

D = 4
DEVICE, HOST = 24, 60  # rows, of a few hundred that a table gets


def cache_in(
    folder: Path | str, device_rows: int | str = DEVICE, host_rows: int | str = HOST, **more: Any
) -> CacheConfig:
    return CacheConfig(device_rows=device_rows, host_rows=host_rows, disk=str(folder), **({"policy": "lru"} | more))


def engine_of(cache: CacheConfig | None = None, features: Iterable[str] = "f", **options: Any) -> EmbeddingEngine:
    """On the CPU; each feature has a table of its own, and all of them one storage."""
    option = EmbeddingOption(D, **({"device": "cpu", "backend": "numba", "block_size": 64} | options), cache=cache)
    return EmbeddingEngine(dict.fromkeys(features, option))


def adam(engine: EmbeddingEngine) -> SparseAdam:
    return SparseAdam(engine.sparse_parameters(), lr=0.05)


def adam_of(engine: EmbeddingEngine) -> Any:
    """The one that has its tables already; where it is gone, one that goes on with its slots and t."""
    return engine.table("f").physical.optimizer or adam(engine)


def planned(engine: EmbeddingEngine, batch: Batch) -> PlannedCall:
    """Said to come, as a Prefetcher says it."""
    [(_, call)] = engine.training_calls(batch)
    tiers = tiers_of(engine)
    return tiers.planned_calls.plan(tiers.device, digest_of(call), unique_keys(call))


def train_ahead(
    engine: EmbeddingEngine, optimizer: SparseOptimizer, batches: Iterable[Batch], depth: int, loss: Loss = loss_of
) -> list[float]:
    return train(engine, optimizer, Prefetcher(engine, batches, depth), loss)


def tiers_of(engine: EmbeddingEngine, name: str = "f") -> TieredState:
    state = engine.table(name).physical.storage.tiers
    assert state is not None
    return state


def held(engine: EmbeddingEngine) -> int:
    """Rows that planned calls hold on the device, over all tables; and that no row is held less than not at all."""
    states = [table.physical.storage.tiers for table in engine.sparse_parameters().values()]
    counts = [state.device.index.at["held"] for state in states if state is not None]
    assert all((count >= 0).all() for count in counts)
    return sum(int(count.sum()) for count in counts)


def assert_same_engines(got: EmbeddingEngine, want: EmbeddingEngine) -> None:
    """Every table's ids, weights and slots, bit for bit; as they lie, and as eval reads them."""
    assert got.sparse_parameters().keys() == want.sparse_parameters().keys()
    for name, table in got.sparse_parameters().items():
        mine, theirs = table.snapshot(), want.table(name).snapshot()
        assert_same(f"ids of {name}", mine.ids, theirs.ids)
        assert_same(f"weights of {name}", mine.weights, theirs.weights)
        assert mine.slots.keys() == theirs.slots.keys()
        for slot, values in theirs.slots.items():
            assert_same(f"{slot} of {name}", mine.slots[slot], values)


@contextmanager
def unchanged(state: TieredState, *, but_for_uses: bool = False) -> Iterator[None]:
    """Inside, no row comes, goes or changes, in any tier. but_for_uses: filters may go by a later last use."""
    before = _places(state)
    yield
    after = _places(state)
    assert before.keys() == after.keys()
    for what, values in before.items():
        if but_for_uses and what == "device used":
            assert (after[what] >= values).all()
            continue
        np.testing.assert_array_equal(after[what], values, err_msg=what)


def _places(state: TieredState) -> dict[str, np.ndarray]:
    """Which rows each tier holds, and what."""
    rows = state.device.index.all_rows()
    kept = state.device.read(rows)
    found = {
        f"device {name}": state.device.index.at[name][rows] for name in ("ids", "tables", "score", "used", "dirty")
    }
    found |= {"device weights": kept.weights.float().numpy(), "versions": kept.marks["version"]}
    for tier, store in (("host", state.lower.host), ("disk", state.lower.disk)):
        chunks = [] if store is None else list(store.scan())
        ids, tables, packed = (np.concatenate([c[k] for c in chunks]) if chunks else np.zeros(0) for k in range(3))
        order = np.lexsort((ids, tables))
        found |= {f"{tier} ids": ids[order], f"{tier} tables": tables[order], f"{tier} rows": packed[order]}
    return found
