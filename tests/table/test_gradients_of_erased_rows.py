"""A gradient goes with its row: what was erased after the forward gets none, nor does who takes its place.

Each case erases ids 2 and 3 of 1 … 4 at another time, and puts others in their rows. By SGD with lr 1 a row's change is its
gradient's negative.
"""

import pytest
import torch

from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseSGD

IDS, GONE, NEW = torch.tensor([1, 2, 3, 4]), torch.tensor([2, 3]), torch.tensor([20, 30])
GRADIENT = torch.tensor([[1.0], [2.0], [4.0], [8.0]])


@pytest.fixture(params=["torch", "numba", "jax", "tiers"])
def table_and_optimizer(request, tmp_path):
    kind = request.param
    cache = CacheConfig(device_rows=3, host_rows=4, disk=str(tmp_path), policy="lru") if kind == "tiers" else None
    option = EmbeddingOption(2, backend="numba" if kind == "tiers" else kind, cache=cache)
    engine = EmbeddingEngine({"f": option})
    return engine, engine.table("f"), SparseSGD(engine.sparse_parameters(), lr=1.0)


def _loss(engine):
    return (engine({"f": IDS})["f"] * GRADIENT).sum()


def _erase(table):
    table.physical.erase(GONE, table.ordinal)


def _changes(table, optimizer) -> dict[int, float]:
    """By how much a step lowers each row, where it does."""
    before = dict(zip(table.ids().tolist(), table.embeddings()[:, 0].tolist(), strict=True))
    optimizer.step()
    after = dict(zip(table.ids().tolist(), table.embeddings()[:, 0].tolist(), strict=True))
    assert before.keys() == after.keys()
    return {i: round(before[i] - after[i], 3) for i in before if before[i] != after[i]}


def test_erased_between_forward_and_backward(table_and_optimizer):
    engine, table, optimizer = table_and_optimizer
    loss = _loss(engine)
    _erase(table)
    engine({"f": NEW})
    loss.backward()
    assert _changes(table, optimizer) == {1: 1.0, 4: 8.0}


def test_erased_between_backward_and_step(table_and_optimizer):
    engine, table, optimizer = table_and_optimizer
    _loss(engine).backward()
    _erase(table)
    engine({"f": NEW})
    assert optimizer.squared_norm() == 2 * (1 + 64)
    assert _changes(table, optimizer) == {1: 1.0, 4: 8.0}


def test_erased_after_the_sync(table_and_optimizer):
    engine, table, optimizer = table_and_optimizer
    _loss(engine).backward()
    engine.sync_gradients()
    _erase(table)
    engine({"f": NEW})
    assert _changes(table, optimizer) == {1: 1.0, 4: 8.0}


def test_an_id_that_came_back_gets_what_it_earned_since(table_and_optimizer):
    engine, table, optimizer = table_and_optimizer
    first = _loss(engine)
    _erase(table)
    engine({"f": NEW})
    second = _loss(engine)
    first.backward()
    second.backward()
    assert _changes(table, optimizer) == {1: 2.0, 2: 2.0, 3: 4.0, 4: 16.0}


def test_a_graph_that_is_kept(table_and_optimizer):
    engine, table, optimizer = table_and_optimizer
    loss = _loss(engine)
    loss.backward(retain_graph=True)
    _erase(table)
    engine({"f": NEW})
    loss.backward()
    assert _changes(table, optimizer) == {1: 2.0, 4: 16.0}


def test_a_table_without_tiers_tells_its_gradient_without_them(table_and_optimizer):
    engine, table, _ = table_and_optimizer
    if engine.table("f").option.cache is not None:
        pytest.skip("rows in tiers have no numbers that last")
    _loss(engine).backward()
    _erase(table)
    rows, values = table.grad()
    by_row = dict(zip(rows.tolist(), values[:, 0].tolist(), strict=True))
    assert by_row == dict(zip(table.lookup_index(torch.tensor([1, 4])).tolist(), [1.0, 8.0], strict=True))


def test_a_mean_over_occurrences(table_and_optimizer):
    engine, table, _ = table_and_optimizer
    option = EmbeddingOption(2, backend=table.option.backend, grad_reduce_by="id")
    engine = EmbeddingEngine({"f": option})
    table, optimizer = engine.table("f"), SparseSGD(engine.sparse_parameters(), lr=1.0)
    loss = engine({"f": torch.tensor([1, 2, 2, 4, 4, 4])})["f"].sum()
    table.physical.erase(torch.tensor([2]), table.ordinal)
    loss.backward()
    assert _changes(table, optimizer) == {1: 1.0, 4: 1.0}


def test_what_is_remembered_goes_with_the_forwards_that_wait(table_and_optimizer):
    engine, table, _ = table_and_optimizer
    losses = [_loss(engine)]
    _erase(table)
    assert len(table.physical.erasures.entries) == 1
    losses.clear()
    for _ in range(3):
        _erase(table)
    assert table.physical.erasures.entries == ()


def test_more_than_is_remembered_is_dropped_whole(table_and_optimizer, monkeypatch):
    engine, table, optimizer = table_and_optimizer
    monkeypatch.setattr("recis_core.table.erasures.MOST", 3)
    loss = _loss(engine)
    for some in (GONE, torch.tensor([7]), torch.tensor([8, 9])):
        table.physical.erase(some, table.ordinal)
    loss.backward()
    assert _changes(table, optimizer) == {}
