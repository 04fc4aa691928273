"""Which rows each filter takes, and what becomes of those that return."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.backends.records import Marks
from recis_core.nn import ConstantInitializer, EmbeddingEngine, EmbeddingOption, FilterHook, HashTable
from recis_core.optim import SparseAdam, SparseSGD
from tests.table.admitting import D, engine_of, initial


def train(table: HashTable, optimizer, ids: list[int]) -> None:
    """One step in which these ids are used, each with a gradient of ones."""
    table(torch.tensor(ids, dtype=torch.int64)).sum().backward()
    optimizer.step()


def table_of(hook: FilterHook | str, **options) -> tuple[HashTable, SparseSGD]:
    table = HashTable([D], filter_hook=hook, **({"backend": "numba"} | options))
    return table, SparseSGD({"hashtable": table}, lr=0.25)


@pytest.mark.parametrize("backend", ["torch", "numba", "jax", pytest.param("pallas", marks=pytest.mark.full)])
def test_the_edge_of_the_step_filter(backend: str) -> None:
    """A row last used at step 1 goes after step s iff s − 1 >= n; and comes back as new, its slots zeros."""
    n = 3
    engine = engine_of(backend=backend, filter_hook=FilterHook("GlobalStepFilter", {"filter_step": n}))
    table = engine.table("f")
    optimizer = SparseAdam(engine.sparse_parameters(), lr=0.1)
    heard: list[int] = []
    table.physical.observers.append(lambda ids, ordinals: heard.extend(ids.tolist()))
    for step in range(1, n + 2):
        train(table, optimizer, [7, 8] if step == 1 else [8, 9])
        heard.clear()
        gone = engine.evict()
        assert gone == {"f": int(step - 1 == n)}, step
        assert heard == ([7] if step - 1 == n else [])
    assert table.ids().tolist() == [8, 9]
    assert table.stats()["evicted_by_step"] == 1
    again = table(torch.tensor([7, 8]))
    np.testing.assert_array_equal(again[0].detach().numpy(), initial("f", [7])[0])
    assert not table.slot_group().slot_by_name("m")[0].any()
    assert table.slot_group().slot_by_name("m")[1].all()


def test_steps_without_uses_make_rows_old() -> None:
    table, optimizer = table_of("step(2)")
    train(table, optimizer, [1])
    optimizer.step()
    assert table.evict() == 0
    optimizer.step()
    assert table.evict() == 1


def test_rows_whose_backward_may_come_stay() -> None:
    """Between forward and backward, and between backward and step; then they are used."""
    table, optimizer = table_of(FilterHook(lambda marks, weights: torch.ones(len(marks.ids), dtype=torch.bool)))
    train(table, optimizer, [1, 2])
    out = table(torch.tensor([2]))
    assert (table.evict(), table.ids().tolist()) == (1, [2])
    out.sum().backward()
    assert table.evict() == 0
    before = table.embeddings().clone()
    optimizer.step()
    assert table.embeddings().tolist() == (before - 0.25).tolist()
    del out
    assert table.evict() == 1
    assert table.stats()["evicted_by_custom"] == 2


@settings(deadline=None)
@given(batches=st.lists(st.lists(st.integers(-5, 20), min_size=1, max_size=8), max_size=6), most=st.integers(1, 8))
def test_lru_against_a_dict(batches: list[list[int]], most: int) -> None:
    table, optimizer = table_of(FilterHook("LRU", {"max_rows": most}))
    last: dict[int, int] = {}
    for step, ids in enumerate(batches):
        train(table, optimizer, ids)
        last |= dict.fromkeys(ids, step)
        order = sorted(last, key=lambda i: (last[i], i))
        for i in order[: max(0, len(last) - most)]:
            del last[i]
        table.evict()
        assert set(table.ids().tolist()) == last.keys()


@settings(deadline=None)
@given(batches=st.lists(st.lists(st.integers(-5, 20), min_size=1, max_size=8), max_size=6), most=st.integers(1, 8))
def test_lfu_against_a_dict(batches: list[list[int]], most: int) -> None:
    """Evicted after every second step: what was counted before weighs half."""
    table, optimizer = table_of(FilterHook("LFU", {"max_rows": most, "decay": 0.5}))
    aged: dict[int, float] = {}
    uses, last = Counter[int](), dict[int, int]()
    for step, ids in enumerate(batches, 1):
        train(table, optimizer, ids)
        uses.update(set(ids))
        last |= dict.fromkeys(ids, step)
        if step % 2:
            continue
        aged = {i: 0.5 * aged.get(i, 0.0) + uses[i] for i in last}
        uses.clear()
        for i in sorted(last, key=lambda i: (aged[i], last[i], i))[: max(0, len(last) - most)]:
            del last[i], aged[i]
        table.evict()
        assert set(table.ids().tolist()) == last.keys()


def test_ttl() -> None:
    """By a clock of our own: rows go a lifetime after the step that used them last was finished, or a little later."""
    table, optimizer = table_of("ttl(100)")
    ttl, now = table.physical.eviction.filter, [1000.0]
    ttl.now = lambda: now[0]
    train(table, optimizer, [1])
    now[0] = 1050.0
    train(table, optimizer, [2])
    for when, left in ((1099, [1, 2]), (1101, [2]), (1149, [2]), (1152, [])):
        now[0] = float(when)
        table.evict()
        assert table.ids().tolist() == left, when
    for _ in range(2000):  # a step a second
        now[0] += 1
        train(table, optimizer, [3])
        assert len(ttl._finished) < 135
    train(table, optimizer, [4])
    now[0] += 103
    assert table.evict() == 2


@pytest.mark.parametrize("backend", ["torch", "numba", pytest.param("jax", marks=pytest.mark.full)])
def test_norm(backend: str) -> None:
    """Rows near zero go, trained ones stay; what was never updated comes back as it was."""
    option = EmbeddingOption(
        D, initializer=ConstantInitializer(0.0), filter_hook="norm(.5)", backend=backend, device="cpu"
    )
    engine = EmbeddingEngine({"f": option})
    table, optimizer = engine.table("f"), SparseSGD(engine.sparse_parameters(), lr=0.25)
    with torch.no_grad():
        table(torch.tensor([3]))
    train(table, optimizer, [1, 1, 2])
    optimizer.step()
    assert engine.evict() == {"f": 1}  # 2 has norm .5
    assert table.ids().tolist() == [1, 2]


def test_a_function_of_marks_and_weights() -> None:
    """Of one named table at a time; weights by position."""
    seen: list[list[int]] = []

    def heaviest(marks: Marks, weights) -> torch.Tensor:
        seen.append(marks.ids.tolist())
        at = (marks.stamps == 0).nonzero().flatten()
        gone = torch.zeros(len(marks.ids), dtype=torch.bool)
        gone[at[weights(at).sum(1).argmax()]] = True
        return gone

    engine = engine_of(["f", "g"], filter_hook=FilterHook(heaviest))
    engine.table("f").insert(torch.tensor([4, 5, -6]), torch.tensor([[1.0], [3.0], [2.0]]).expand(3, D))
    engine.table("g").insert(torch.tensor([4, 5]), torch.tensor([[9.0], [3.0]]).expand(2, D))
    for table in engine.sparse_parameters().values():
        table.physical.step = 1
    assert engine.evict() == {"f": 1, "g": 1}
    assert sorted(seen) == [[-6, 4, 5], [4, 5]]
    assert (engine.table("f").ids().tolist(), engine.table("g").ids().tolist()) == ([-6, 4], [5])
    assert engine.table("f").evict() == 1
    assert engine.stats()["f"]["evicted_by_custom"] == 2
    assert engine.stats()["g"]["evicted_by_custom"] == 1


def test_a_function_that_returns_something_else() -> None:
    table, optimizer = table_of(FilterHook(lambda marks, weights: marks.stamps))
    train(table, optimizer, [1])
    with pytest.raises(TypeError, match="must return a bool Tensor"):
        table.evict()


def test_max_rows_is_of_each_named_table() -> None:
    engine = engine_of(["f", "g"], filter_hook="lru(3)")
    assert engine.table("f").physical is engine.table("g").physical
    engine({"f": torch.arange(10), "g": torch.arange(2)})
    engine.table("f").physical.step += 1
    assert engine.evict() == {"f": 7, "g": 0}


def test_what_is_inserted_counts_as_used() -> None:
    table, optimizer = table_of("step(5)")
    train(table, optimizer, [1])
    for _ in range(9):
        optimizer.step()
    table.insert(torch.tensor([1, 2]), torch.ones(2, D))
    assert table.evict() == 0


def test_without_a_filter_nothing_goes() -> None:
    table = HashTable([D])
    table(torch.tensor([1]))
    assert table.evict() == 0
