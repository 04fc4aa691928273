"""Groups that are added later, hyperparameters by torch's names and RecIS's, and what of torch's is refused."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from recis_core.backends.errors import RecisError
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdagrad, SparseAdam, SparseAdamW, SparseSGD, join

IDS = torch.tensor([1, 2])


def engine_of(*names, backend="torch"):
    return EmbeddingEngine({name: EmbeddingOption(2, backend=backend) for name in names or ("a",)})


def joined(engine, *tables):
    tower = nn.Linear(2, 1)
    sparse = {name: engine.table(name) for name in tables or ("a",)}
    return tower, join(torch.optim.SGD(tower.parameters(), lr=0.1), SparseSGD(sparse, lr=0.1))


def rows_of(engine, name="a"):
    return engine.table(name).embeddings().clone()


def step(engine, optimizer, *more):
    out = engine(dict.fromkeys(engine.options, IDS))
    (sum(o.sum() for o in out.values()) + sum(p.sum() for p in more)).backward()
    optimizer.step()


def test_a_dense_group_added_to_a_joined_optimizer_trains(eager_backend):
    engine, late = engine_of(backend=eager_backend), nn.Parameter(torch.ones(1))
    _, optimizer = joined(engine)
    optimizer.add_param_group({"params": [late], "lr": 0.5})
    assert [len(g["params"]) for g in optimizer.param_groups] == [2, 1, 1]
    step(engine, optimizer, late)
    assert late.item() == 0.5
    assert late in optimizer.dense.param_groups[1]["params"]


@pytest.mark.parametrize("form", [dict, list, "one"])
@pytest.mark.parametrize("side", ["joined", "sparse"])
def test_a_group_of_tables_trains_at_its_own_rate(form, side):
    engine = engine_of("a", "b")
    _, optimizer = joined(engine)
    b = {"b": engine.table("b")}
    given = b if form is dict else [b["b"]] if form is list else b["b"]
    (optimizer if side == "joined" else optimizer.sparse).add_param_group({"params": given, "lr": 10.0})
    engine({"a": IDS, "b": IDS})
    before = rows_of(engine, "a"), rows_of(engine, "b")
    step(engine, optimizer)
    torch.testing.assert_close(before[0] - rows_of(engine, "a"), torch.full((2, 2), 0.1))
    torch.testing.assert_close(before[1] - rows_of(engine, "b"), torch.full((2, 2), 10.0))


def test_dense_parameters_are_refused_by_a_sparse_optimizer_with_the_way_out():
    engine = engine_of()
    optimizer = SparseSGD(engine.sparse_parameters())
    for params in ([nn.Parameter(torch.ones(1))], nn.Parameter(torch.ones(1)), []):
        with pytest.raises(RecisError, match="Dense parameters go to the dense optimizer"):
            optimizer.add_param_group({"params": params})
    with pytest.raises(TypeError, match=r"has no \['momentum_'\]"):
        optimizer.add_param_group({"params": engine_of("b").sparse_parameters(), "momentum_": 1})
    assert len(optimizer.param_groups) == 1
    for one in (optimizer, joined(engine_of())[1]):
        with pytest.raises(TypeError, match="a group must be a dict; got list"):
            one.add_param_group([1])


def test_a_joined_optimizers_list_of_groups_refuses_to_change_in_vain():
    _, optimizer = joined(engine_of())
    group = {"params": [nn.Parameter(torch.ones(1))]}
    for change in (
        lambda: optimizer.param_groups.append(group),
        lambda: optimizer.param_groups.extend([group]),
        lambda: optimizer.param_groups.pop(),
        lambda: optimizer.param_groups.clear(),
        lambda: optimizer.param_groups.__setitem__(0, group),
        lambda: setattr(optimizer, "param_groups", [group]),
    ):
        with pytest.raises(RecisError, match="two sides' own"):
            change()
    assert optimizer.param_groups[0] in optimizer.param_groups
    assert next(reversed(optimizer.param_groups)) is optimizer.sparse.param_groups[0]


def test_the_state_of_a_joined_optimizer_is_its_dense_sides():
    engine = engine_of()
    tower, optimizer = joined(engine)
    optimizer.dense.param_groups[0]["momentum"] = 0.5
    step(engine, optimizer, tower.weight)
    assert set(optimizer.state) == {tower.weight}
    assert "momentum_buffer" in optimizer.state[tower.weight]
    for group in optimizer.param_groups:  # as a logger looks
        for p in group["params"]:
            len(optimizer.state[p])
    assert optimizer.sparse.handles()[0] not in optimizer.state
    optimizer.state_dict()


def test_a_gradient_set_to_none_by_hand_is_dropped():
    engine = engine_of()
    tower, optimizer = joined(engine)
    engine({"a": IDS})
    before = rows_of(engine)
    tower(engine({"a": IDS})["a"]).sum().backward()
    for group in optimizer.param_groups:
        for p in group["params"]:
            assert p.grad is not None
            p.grad.mul_(0.5)
            p.grad = None
    optimizer.step()
    assert torch.equal(before, rows_of(engine))
    step(engine, optimizer)
    torch.testing.assert_close(before - rows_of(engine), torch.full((2, 2), 0.1))
    with pytest.raises(RecisError, match=r"engine.requires_grad_\(False\)"):
        optimizer.sparse.handles()[0].requires_grad_(False)


def test_a_step_under_torch_compile_is_a_step():
    torch._dynamo.reset()
    rows = []
    for wrap in (lambda f: f, lambda f: torch.compile(f, backend="eager")):
        engine = engine_of()
        tower, optimizer = joined(engine)
        engine({"a": IDS})["a"].sum().backward()
        wrap(lambda: optimizer.step())()  # noqa: B023
        assert optimizer.sparse.state_dict()["t"] == {"a": 1}
        rows.append(rows_of(engine))
    assert torch.equal(*rows)


def test_betas_go_by_torchs_name_and_by_recis(eager_backend):
    rows = []
    for numbers in ({"betas": (0.5, 0.75)}, {"beta1": 0.5, "beta2": 0.75}):
        engine = engine_of(backend=eager_backend)
        optimizer = SparseAdam(engine.sparse_parameters(), lr=0.1, **numbers)
        assert optimizer.defaults["betas"] == optimizer.param_groups[0]["betas"] == (0.5, 0.75)
        for _ in range(3):
            step(engine, optimizer)
        rows.append(rows_of(engine))
    assert torch.equal(*rows)
    [group] = optimizer.param_groups
    group["beta1"] = 0.25
    assert (group["betas"], group["beta1"], group.get("beta2")) == ((0.25, 0.75), 0.25, 0.75)
    group.update(beta2=0.5)
    assert group["betas"] == (0.25, 0.5)
    with pytest.raises(ValueError, match="give one of the two"):
        SparseAdam(engine_of().sparse_parameters(), beta1=0.5, betas=(0.4, 0.9))
    with pytest.raises(ValueError, match=r"betas must be a pair"):
        SparseAdam(engine_of().sparse_parameters(), betas=(0.4,))
    with pytest.raises(ValueError, match="beta2 must be below 1"):
        SparseAdam(engine_of().sparse_parameters(), betas=(0.4, 1.0))


@pytest.mark.parametrize("peer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad, torch.optim.SGD])
def test_defaults_have_the_names_that_torchs_optimizer_has(peer):
    ours = {"Adam": SparseAdam, "AdamW": SparseAdamW, "Adagrad": SparseAdagrad, "SGD": SparseSGD}[peer.__name__]
    optimizer = ours(engine_of().sparse_parameters())
    theirs = peer([nn.Parameter(torch.ones(1))])
    # what begins an accumulator is no number of a group here
    assert set(theirs.defaults) - set(optimizer.defaults) - {"decoupled_weight_decay"} <= {"initial_accumulator_value"}
    assert set(optimizer.defaults) <= set(optimizer.param_groups[0])
    flags = {n: theirs.defaults[n] for n in theirs.defaults if n in ours.torch_only and not theirs.defaults[n]}
    ours(engine_of().sparse_parameters(), **flags)  # off, they are taken
    for name in flags:
        with pytest.raises(ValueError, match=rf"has no {name}; got {name}=True\. \w+"):
            ours(engine_of().sparse_parameters(), **{name: True})
    with pytest.raises(TypeError, match="has no argument 'nesterof'"):
        ours(engine_of().sparse_parameters(), nesterof=True)


@pytest.mark.parametrize("kind", [SparseAdam, SparseAdamW, SparseAdagrad, SparseSGD])
@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5])
def test_a_number_that_is_none_is_refused_at_the_step_and_changes_nothing(kind, value):
    engine = engine_of()
    tower = nn.Linear(2, 1)
    sparse = kind(engine.sparse_parameters())
    optimizer = join(torch.optim.SGD(tower.parameters(), lr=0.1), sparse)
    names = [n for n in sparse.defaults if n not in kind.torch_only]
    engine({"a": IDS})
    before, weight = rows_of(engine), tower.weight.detach().clone()
    for name in names:
        kept, bad = sparse.param_groups[0][name], (value, 0.9) if name == "betas" else value
        sparse.param_groups[0][name] = bad
        for stepped in (optimizer, sparse):
            tower(engine({"a": IDS})["a"]).sum().backward()
            with pytest.raises(ValueError, match=r"of tables \['a'\] must be a finite number"):
                stepped.step()
            assert torch.equal(before, rows_of(engine))
            assert torch.equal(weight, tower.weight)
            optimizer.zero_grad()
        with pytest.raises(ValueError, match="must be a finite number"):
            sparse.add_param_group({"params": engine_of("b").sparse_parameters(), name: bad})
        sparse.param_groups[0][name] = kept
    sparse.param_groups[0]["maximize"] = True
    with pytest.raises(ValueError, match=r"has no maximize; got maximize=True. Negate the loss"):
        sparse.step()


def test_a_dense_rate_that_is_not_finite_is_refused_by_the_joined_step():
    engine = engine_of()
    tower, optimizer = joined(engine)
    optimizer.dense.param_groups[0]["lr"] = math.nan
    tower(engine({"a": IDS})["a"]).sum().backward()
    with pytest.raises(ValueError, match="lr of dense group 0 must be finite; got nan"):
        optimizer.step()


def test_a_joined_step_that_is_refused_for_tables_left_out_leaves_the_dense_side_too():
    engine = engine_of("a", "b")
    tower, optimizer = joined(engine)
    tower(engine({"a": IDS, "b": IDS})["a"]).sum().backward()
    before = tower.weight.detach().clone()
    with pytest.raises(RecisError, match=r"\['b'\] share one storage with \['a'\] but are in no group"):
        optimizer.step()
    assert torch.equal(before, tower.weight)


def test_copies_and_pickles_are_refused_with_the_way_out():
    _, optimizer = joined(engine_of())
    for one in (optimizer, optimizer.sparse):
        for verb in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(RecisError, match=r"cannot be copied or pickled.*state_dict\(\)"):
                verb(one)


def test_a_closure_is_called_once_and_lbfgs_is_refused():
    engine, calls = engine_of(), []
    tower, optimizer = joined(engine)

    def closure():
        optimizer.zero_grad()
        calls.append(torch.is_grad_enabled())
        loss = tower(engine({"a": IDS})["a"]).sum()
        loss.backward()
        return loss

    engine({"a": IDS})
    before = rows_of(engine)
    assert isinstance(optimizer.step(closure), torch.Tensor)
    assert calls == [True]
    assert not torch.equal(before, rows_of(engine))
    dense = torch.optim.LBFGS(tower.parameters())
    with pytest.raises(RecisError, match=r"LBFGS calls its closure several times a step.*dense.step\(closure\)"):
        join(dense, optimizer.sparse)


def test_step_hooks_of_each_optimizer_run_once(eager_backend):
    engine = engine_of(backend=eager_backend)
    tower, optimizer = joined(engine)
    seen = []
    for one in (optimizer, optimizer.dense, optimizer.sparse):
        one.register_step_pre_hook(lambda o, *_: seen.append(("before", type(o).__name__)))
        one.register_step_post_hook(lambda o, *_: seen.append(("after", type(o).__name__)))
    step(engine, optimizer, tower.weight)
    names = ("JointOptimizer", "SGD", "SparseSGD")
    assert sorted(seen) == sorted((when, name) for when in ("before", "after") for name in names)


def test_their_text_tells_numbers_and_tables():
    _, optimizer = joined(engine_of())
    assert "tables: ['a']" in repr(optimizer)
    assert "Parameter Group 1" in repr(optimizer)
