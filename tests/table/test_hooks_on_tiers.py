"""Tables in tiers admit and evict as those that are all on the device, whatever the tier a row is in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recis_core.nn import EmbeddingEngine
from recis_core.optim import SparseAdam
from recis_core.options.cache_config import CacheConfig
from tests.contract.compare import assert_same
from tests.table.admitting import D, bags, engine_of

STEPS, BATCH = 12, 20
HOOKS = [
    {"admit_hook": "frequency(3)", "unknown": "initial"},
    {"admit_hook": "frequency(2)", "filter_hook": "step(2)"},
    {"filter_hook": "lru(15)"},
    {"admit_hook": "frequency(2)", "filter_hook": "lfu(12,decay=.5)"},
    {"admit_hook": "probability(.4)", "filter_hook": "norm(.6)"},
]


def _train(engine: EmbeddingEngine) -> list[tuple[torch.Tensor, dict[str, int]]]:
    """Outputs and evictions of each step."""
    optimizer, seen = SparseAdam(engine.sparse_parameters(), lr=0.05), []
    for step in range(STEPS):
        ids = np.random.default_rng(step).zipf(1.2, BATCH) % 40 - 5
        out = engine({"f": bags(ids[:7].tolist(), ids[7:9].tolist(), ids[9:].tolist())})["f"]
        (out.square().sum() + out.sum()).backward()
        optimizer.step()
        seen.append((out.detach().clone(), engine.evict()))
    return seen


@pytest.mark.parametrize("device_rows", [4, 16])
@pytest.mark.parametrize("hooks", HOOKS, ids=lambda hooks: "-".join(hooks.values()))
def test_as_without_tiers(hooks: dict[str, str], device_rows: int, tmp_path: Path) -> None:
    """A device that holds a call, and one that does not; host memory of 6 rows; the rest on disk."""
    cache = CacheConfig(device_rows=device_rows, host_rows=6, disk=str(tmp_path), policy="lru")
    plain, tiered = engine_of(backend="numba", **hooks), engine_of(backend="numba", cache=cache, **hooks)
    for (out, gone), (want, went) in zip(_train(tiered), _train(plain), strict=True):
        assert_same("output", out, want)
        assert gone == went
    mine, theirs = tiered.table("f"), plain.table("f")
    assert mine.ids().tolist() == theirs.ids().tolist()
    assert_same("rows", mine.embeddings(), theirs.embeddings())
    assert_same("m", mine.slot_group().slot_by_name("m"), theirs.slot_group().slot_by_name("m"))
    same = (
        "admitted",
        "rejected",
        "evicted_by_step",
        "evicted_by_lru",
        "evicted_by_lfu",
        "evicted_by_norm",
        "rows",
        "found",
    )
    stats, want = mine.stats(), theirs.stats()
    assert {n: stats[n] for n in same if n in stats} == {n: want[n] for n in same if n in want}
    if "filter_hook" in hooks:
        assert sum(gone["f"] for _, gone in _train(engine_of(backend="numba", **hooks))) > 0


def test_marks_of_all_tiers(tmp_path: Path) -> None:
    cache = CacheConfig(device_rows=4, host_rows=6, disk=str(tmp_path))
    engine = engine_of(backend="numba", cache=cache)
    _train(engine)
    physical = engine.table("f").physical
    marks, whole = physical.storage.marks(), physical.export()
    for got, name in ((marks.ids, "ids"), (marks.tables, "tables"), (marks.stamps, "stamps")):
        assert_same(name, got, getattr(whole, name))
    values = physical.storage.gather(marks.rows, marks.ids, marks.tables)
    assert_same("weights by row number", values, whole.weights)
    assert len(marks.ids) > 10
    assert values.shape[1] == D
