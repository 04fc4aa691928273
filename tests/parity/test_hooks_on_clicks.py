"""Admission and eviction on the real click log: exactly the ids that a dict says.

Sizes: B rows of a batch.
"""

from __future__ import annotations

import glob
from collections import Counter
from functools import cache

import pytest
import torch
from pyarrow import orc

from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.ragged import RaggedTensor
from tests.parity.click_log import click_log

B, THRESHOLD, FIELDS = 2048, 5, [f"c{c}" for c in range(1, 27)]
Bags = dict[str, list[list[int]]]


@cache
def batches() -> list[Bags]:
    """Every id of 26 columns, in the log's order."""
    found = []
    for file in sorted(glob.glob(click_log())):
        rows = orc.read_table(file, columns=FIELDS).to_pydict()
        found += [{f: rows[f][beg : beg + B] for f in FIELDS} for beg in range(0, len(rows["c1"]), B)]
    return found


def ragged(bags: list[list[int]]) -> RaggedTensor:
    values = torch.tensor([i for bag in bags for i in bag], dtype=torch.int64)
    return RaggedTensor(values, torch.tensor([0, *(len(bag) for bag in bags)]).cumsum(0))


@pytest.mark.parametrize("backend", ["torch", "numba", pytest.param("jax", marks=pytest.mark.full)])
def test_frequency(backend: str) -> None:
    option = EmbeddingOption(2, backend=backend, device="cpu", admit_hook=f"frequency({THRESHOLD})")
    engine = EmbeddingEngine(dict.fromkeys(FIELDS, option))
    seen: dict[str, Counter[int]] = {f: Counter() for f in FIELDS}
    for batch in batches():
        engine({f: ragged(batch[f]) for f in FIELDS})
        for f in FIELDS:
            seen[f].update(i for bag in batch[f] for i in bag)
    admitted = 0
    for f in FIELDS:
        want = {i for i, count in seen[f].items() if count >= THRESHOLD}
        assert set(engine.table(f).ids().tolist()) == want, f
        admitted += len(want)
    stats = engine.table("c1").stats()
    assert (stats["admitted"], stats["counter_overflow"]) == (admitted, 0)
    assert admitted < 0.5 * sum(len(counts) for counts in seen.values())


def test_lru() -> None:
    """Of each field the 500 ids used last, evicted after every batch."""
    option = EmbeddingOption(2, backend="numba", device="cpu", filter_hook="lru(500)")
    engine = EmbeddingEngine(dict.fromkeys(FIELDS, option))
    last: dict[str, dict[int, int]] = {f: {} for f in FIELDS}
    for step, batch in enumerate(batches()):
        engine({f: ragged(batch[f]) for f in FIELDS})
        engine.table("c1").physical.step += 1
        engine.evict()
        for f in FIELDS:
            used = last[f]
            used |= {i: step for bag in batch[f] for i in bag}
            for i in sorted(used, key=lambda i: (used[i], i))[: max(0, len(used) - 500)]:
                del used[i]
    for f in FIELDS:
        assert set(engine.table(f).ids().tolist()) == last[f].keys(), f
