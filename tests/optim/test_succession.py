"""One optimizer after another, and two at once, over the same tables."""

import gc

import pytest
import torch
from torch import nn

from recis_core.backends.errors import RecisError
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdagrad, SparseAdam, SparseAdamW, SparseRowWiseAdagrad, SparseSGD, join

IDS = torch.tensor([1, 2])


def engine_of(*names, backend="torch", **options):
    return EmbeddingEngine({name: EmbeddingOption(2, backend=backend, **options) for name in names or ("a",)})


def train(engine, optimizer, steps=3):
    for k in range(steps):
        (engine(dict.fromkeys(engine.options, IDS))["a"] * (k + 1)).sum().backward()
        optimizer.step()
    return engine.table("a").embeddings()


def test_a_second_optimizer_of_the_kind_goes_on_where_the_first_ended(eager_backend):
    one, two = engine_of(backend=eager_backend), engine_of(backend=eager_backend)
    optimizer = SparseAdam(one.sparse_parameters(), lr=0.1)
    train(one, optimizer), train(two, SparseAdam(two.sparse_parameters(), lr=0.1))
    successor = SparseAdamW(two.sparse_parameters(), lr=0.1, weight_decay=0.0)
    assert successor.state_dict()["t"] == {"a": 3}
    assert torch.equal(train(one, optimizer), train(two, successor))


@pytest.mark.parametrize("held_by", ["scheduler", "joined"])
def test_what_holds_an_optimizer_in_a_circle_does_not_keep_its_tables(held_by):
    engine = engine_of()
    optimizer = SparseAdam(engine.sparse_parameters())
    holder = (
        torch.optim.lr_scheduler.StepLR(optimizer, 1)
        if held_by == "scheduler"
        else join(torch.optim.SGD([nn.Parameter(torch.ones(1))]), optimizer)
    )
    with pytest.raises(RecisError, match=r"belong to another SparseAdam already.*delete it first"):
        SparseAdam(engine.sparse_parameters())
    gc.disable()
    try:
        del optimizer, holder
        SparseAdam(engine.sparse_parameters())
    finally:
        gc.enable()


def test_a_constructor_that_fails_keeps_no_table():
    engine = engine_of("a", "b", seed=1)
    other = engine_of("c")
    holder = SparseAdam(other.sparse_parameters())
    with pytest.raises(RecisError, match="tables c share one storage"):
        SparseAdam({**engine.sparse_parameters(), **other.sparse_parameters()})
    assert engine.table("a").physical.optimizer is None
    SparseSGD(engine.sparse_parameters())
    assert holder.param_groups


def test_another_kind_starts_anew_and_says_so(eager_backend):
    engine, fresh = engine_of(backend=eager_backend), engine_of(backend=eager_backend)
    train(engine, SparseAdam(engine.sparse_parameters(), lr=0.1))
    with pytest.warns(UserWarning, match=r"SparseAdagrad starts anew.*slots, m, v, stay"):
        optimizer = SparseAdagrad(engine.sparse_parameters(), lr=0.1)
    fresh.load_state_dict({k: v for k, v in engine.state_dict().items() if ".slot." not in k})
    assert optimizer.state_dict()["t"] == {"a": 0}
    other = SparseAdagrad(fresh.sparse_parameters(), lr=0.1)
    assert torch.equal(train(engine, optimizer), train(fresh, other))
    del optimizer
    with pytest.warns(UserWarning, match=r"slots, sum, stay"):
        back = SparseAdam(engine.sparse_parameters(), lr=0.1)  # m and v of before are not taken for its own
    fresh = engine_of(backend=eager_backend)
    fresh.load_state_dict({k: v for k, v in engine.state_dict().items() if ".slot." not in k})
    assert torch.equal(train(engine, back), train(fresh, SparseAdam(fresh.sparse_parameters(), lr=0.1)))


def test_slots_of_one_name_and_another_form_are_refused_with_the_way_out(eager_backend):
    engine = engine_of(backend=eager_backend)
    train(engine, SparseAdagrad(engine.sparse_parameters()))
    before = engine.table("a").embeddings()
    with pytest.raises(RecisError, match=r"SparseRowWiseAdagrad wants otherwise.*without keys that hold '.slot.'"):
        SparseRowWiseAdagrad(engine.sparse_parameters())
    assert torch.equal(before, engine.table("a").embeddings())
    train(engine, SparseAdagrad(engine.sparse_parameters()))


def test_two_kinds_for_tables_that_share_storage_name_the_option_and_work_with_it(eager_backend):
    engine = engine_of("a", "b", backend=eager_backend)
    first = SparseSGD({"a": engine.table("a")})
    with pytest.raises(RecisError, match=r'another SparseSGD already.*EmbeddingOption\(storage="…"\)'):
        SparseAdam({"b": engine.table("b")})
    del first
    options = {name: EmbeddingOption(2, backend=eager_backend, storage=name) for name in "ab"}
    engine = EmbeddingEngine(options)
    assert engine.table("a").physical is not engine.table("b").physical
    sgd, adam = SparseSGD({"a": engine.table("a")}, lr=1.0), SparseAdam({"b": engine.table("b")}, lr=0.5)
    out = engine({"a": IDS, "b": IDS})
    before = {name: value.detach().clone() for name, value in out.items()}
    (out["a"] + out["b"]).sum().backward()
    sgd.step()
    adam.step()
    torch.testing.assert_close(before["a"] - engine.table("a").embeddings(), torch.full((2, 2), 1.0))
    torch.testing.assert_close(before["b"] - engine.table("b").embeddings(), torch.full((2, 2), 0.5))
