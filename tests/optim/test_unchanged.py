"""An optimizer step over several tables: what fails in one of them is told of, stepped later, and nothing twice."""

import pytest
import torch

from recis_core.backends.errors import NonFiniteGradient
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam, SparseSGD, join

BATCH = {"a": torch.tensor([1, 2]), "b": torch.tensor([3, 4]), "c": torch.tensor([5, 6])}


class Rig:
    """Three tables that share no storage, and a dense layer."""

    def __init__(self, backend, kind=SparseAdam):
        torch.manual_seed(0)
        options = {name: EmbeddingOption(dim, backend=backend) for name, dim in (("a", 2), ("b", 3), ("c", 4))}
        self.engine, self.tower = EmbeddingEngine(options), torch.nn.Linear(9, 1)
        self.sparse = kind(self.engine.sparse_parameters(), lr=0.1)
        self.optimizer = join(torch.optim.Adam(self.tower.parameters(), lr=0.1), self.sparse)

    def backward(self):
        out = self.engine(BATCH)
        self.tower(torch.cat(list(out.values()), 1)).sum().backward()

    def rows(self):
        return {name: self.engine.table(name).embeddings().clone() for name in BATCH}

    def weights(self):
        return [p.detach().clone() for p in self.tower.parameters()]

    def break_table(self, patch, name, error=MemoryError):
        def update(*_, **__):
            raise error

        patch.setattr(self.engine.table(name).physical.storage, "update", update)


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(params=["torch", "numba"])
def rigs(request):
    """Two that are alike."""
    return Rig(request.param), Rig(request.param)


@pytest.mark.parametrize("broken", ["a", "b", "c"])
def test_the_next_step_is_of_what_is_left(rigs, broken, monkeypatch):
    rig, twin = rigs
    for each in rigs:
        each.backward()
    before = rig.rows(), rig.weights()
    with monkeypatch.context() as patch:
        rig.break_table(patch, broken)
        for _ in range(2):
            with pytest.raises(MemoryError) as raised:
                rig.optimizer.step()
    assert "call step() again" in raised.value.__notes__[0] or "step() again applies" in raised.value.__notes__[0]
    changed = {name for name, rows in rig.rows().items() if not torch.equal(rows, before[0][name])}
    assert changed == {"a": set(), "b": {"a"}, "c": {"a", "b"}}[broken]
    assert all(map(torch.equal, rig.weights(), before[1]))
    rig.optimizer.step()
    twin.optimizer.step()
    assert equal(rig.rows(), twin.rows())
    assert rig.sparse.state_dict()["t"] == twin.sparse.state_dict()["t"]
    for each in rigs:
        each.optimizer.zero_grad()
        each.backward()
        each.optimizer.step()
    assert equal(rig.rows(), twin.rows())
    assert all(map(torch.equal, rig.weights(), twin.weights()))


def test_zero_grad_ends_what_is_left(rigs, monkeypatch):
    rig, twin = rigs
    rig.backward()
    with monkeypatch.context() as patch:
        rig.break_table(patch, "b")
        with pytest.raises(MemoryError):
            rig.optimizer.step()
    rig.optimizer.zero_grad()
    assert rig.sparse.state_dict()["t"] == {"a": 1, "b": 0, "c": 0}
    before = rig.rows()
    rig.backward()
    rig.optimizer.step()
    assert rig.sparse.state_dict()["t"] == {"a": 2, "b": 1, "c": 1}
    assert not equal(rig.rows(), before)
    twin.backward()
    twin.optimizer.step()
    assert torch.equal(rig.rows()["b"], twin.rows()["b"])  # as after one step


def test_a_table_with_another_gradient_is_stepped_again(rigs, monkeypatch):
    rig, twin = rigs
    for each in rigs:
        each.backward()
    with monkeypatch.context() as patch:
        rig.break_table(patch, "c")
        with pytest.raises(MemoryError):
            rig.sparse.step()
    rig.engine(BATCH)["a"].sum().backward()
    rig.sparse.step()
    assert rig.sparse.state_dict()["t"] == {"a": 2, "b": 1 + 1, "c": 1}
    assert torch.equal(rig.rows()["c"], _stepped(twin)["c"])


def _stepped(rig):
    rig.sparse.step()
    return rig.rows()


def test_a_dense_step_that_fails(rigs, monkeypatch):
    rig, twin = rigs
    for each in rigs:
        each.backward()
    with monkeypatch.context() as patch:
        patch.setattr(rig.optimizer.dense, "step", _fails)
        with pytest.raises(MemoryError) as raised:
            rig.optimizer.step()
    assert "the dense parameters alone" in raised.value.__notes__[0]
    for each in rigs:
        each.optimizer.step()
    assert equal(rig.rows(), twin.rows())
    assert all(map(torch.equal, rig.weights(), twin.weights()))
    assert rig.sparse.state_dict()["t"] == twin.sparse.state_dict()["t"]


def _fails(*_):
    raise MemoryError


def test_a_gradient_that_is_not_finite_stops_all_tables(rigs):
    rig, _ = rigs
    out = rig.engine(BATCH)
    (out["a"].sum() + out["b"].sum() + out["c"].sum() * float("nan")).backward()
    before = rig.rows()
    with pytest.raises(NonFiniteGradient):
        rig.optimizer.step()
    assert equal(rig.rows(), before)
    assert rig.sparse.state_dict()["t"] == {"a": 0, "b": 0, "c": 0}


def test_a_backward_that_raises_leaves_no_gradient(rigs):
    rig, _ = rigs
    out, other = rig.engine(BATCH), rig.engine(BATCH)
    other["b"].register_hook(_fails)
    with pytest.raises(MemoryError):
        (out["a"].sum() + other["b"].sum()).backward()
    assert not any(table.physical.has_gradient for table in rig.engine.sparse_parameters().values())
    out = rig.engine(BATCH)
    out["c"].sum().backward()
    assert rig.engine.table("c").physical.has_gradient


def test_a_push_that_raises_leaves_no_gradient(rigs, monkeypatch):
    rig, twin = rigs
    storage = rig.engine.table("b").physical
    with monkeypatch.context() as patch:
        patch.setattr(storage, "push", _fails)
        with pytest.raises(MemoryError):
            rig.backward()
    assert not any(table.physical.has_gradient for table in rig.engine.sparse_parameters().values())
    rig.tower.zero_grad()
    for each in rigs:
        each.backward()
        each.optimizer.step()
    assert equal(rig.rows(), twin.rows())


def test_a_forward_that_raises_pins_nothing(monkeypatch):
    rig = Rig("numba", SparseSGD)
    with monkeypatch.context() as patch:
        patch.setattr(rig.engine.table("c").physical, "embed", _fails)
        with pytest.raises(MemoryError) as raised:
            rig.engine(BATCH)
    rig.sparse.step()
    assert raised.value is not None  # its frames hold what the forward had made
    assert all(t.physical.clock.pinned_from == t.physical.step for t in rig.engine.sparse_parameters().values())
    assert rig.engine.table("a").ids().tolist() == [1, 2]
