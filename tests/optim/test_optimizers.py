"""RecIS's numbers, steps, groups, schedules and states of sparse optimizers, on every backend."""

import math

import pytest
import torch

from recis_core.backends.errors import NonFiniteGradient, RecisError
from recis_core.nn import ConstantInitializer, EmbeddingEngine, EmbeddingOption, HashTable
from recis_core.optim import (
    SparseAdagrad,
    SparseAdam,
    SparseAdamW,
    SparseAdamWTF,
    SparseRowWiseAdagrad,
    SparseSGD,
)

W0 = torch.tensor([[1.0, -2.0]])
GRADIENTS = [[0.1, -0.2], [0.3, 0.1], [-0.05, 0.0]]
ID = torch.tensor([42])


def table_of(backend, dim=2, **kwargs):
    table = HashTable([dim], name="t", backend=backend, **kwargs)
    table.insert(ID, W0[:, :dim])
    return table


def train(table, optimizer, gradients=GRADIENTS):
    for g in gradients:
        optimizer.zero_grad()
        (table(ID) * torch.tensor([g])).sum().backward()
        optimizer.step()
    return table.embeddings()[0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (SparseAdam, [0.9974813102001914, -1.9985277859061172]),
        (SparseAdamWTF, [0.9678093879392737, -1.939148349241281]),
    ],
)
def test_behaviours_numbers(backend, kind, expected):
    table = table_of(backend)
    got = train(table, kind({"t": table}, lr=1e-3, weight_decay=1e-2))
    torch.testing.assert_close(got, torch.tensor(expected), rtol=2e-7, atol=1e-7)


def by_hand(kind, lr, wd, **extra):
    """RecIS's formulas in Python floats, one value at a time."""
    out = []
    for k in range(2):
        w, m, v, s = float(W0[0, k]), 0.0, 0.0, extra.get("s0", 0.0)
        for t, gradient in enumerate(GRADIENTS, 1):
            g = gradient[k]
            if kind is SparseAdamW:
                w *= 1 - lr * wd
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                w -= lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (math.sqrt(v) + 1e-8)
            elif kind is SparseAdagrad:
                g += wd * w
                s += g * g
                w -= lr / (1 + (t - 1) * 0.1) * g / (math.sqrt(s) + 1e-10)
            else:
                m = 0.9 * m + g + wd * w
                w -= lr * m
        out.append(w)
    return out


def test_adamw_adagrad_and_momentum_by_hand(backend):
    cases = (
        (SparseAdamW, {"lr": 0.1, "weight_decay": 0.1}, {}),
        (
            SparseAdagrad,
            {"lr": 0.1, "weight_decay": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5},
            {"s0": 0.5},
        ),
        (SparseSGD, {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.9}, {}),
    )
    for kind, numbers, extra in cases:
        table = table_of(backend)
        got = train(table, kind({"t": table}, **numbers))
        expected = torch.tensor(by_hand(kind, numbers["lr"], numbers["weight_decay"], **extra))
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)


def test_row_wise_adagrad_keeps_one_sum_a_row(backend):
    table = table_of(backend)
    optimizer = SparseRowWiseAdagrad({"t": table}, lr=1.0, initial_accumulator_value=0.5)
    got = train(table, optimizer, [[3.0, 4.0]])
    s = 0.5 + (9 + 16) / 2
    assert table.slot_group().slot_by_name("sum").tolist() == [[s]]
    torch.testing.assert_close(got, W0[0] - torch.tensor([3.0, 4.0]) / math.sqrt(s))


def test_against_torch_on_every_row(backend):
    """With every row touched, torch's dense optimizers are the same arithmetic."""
    dense = torch.nn.Parameter(torch.randn(20, 6, generator=torch.Generator().manual_seed(0)))
    peers = (
        (SparseAdam, torch.optim.Adam, {"lr": 0.01}, {"lr": 0.01}),
        (SparseAdagrad, torch.optim.Adagrad, {"lr": 0.1}, {"lr": 0.1}),
        (SparseSGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.9}),
    )
    ids = torch.arange(20)
    for ours, theirs, numbers, peer_numbers in peers:
        table = HashTable([6], name="t", backend=backend)
        table.insert(ids, dense.detach())
        weight = torch.nn.Parameter(dense.detach().clone())
        sparse, peer = ours({"t": table}, **numbers), theirs([weight], **peer_numbers)
        for _ in range(5):
            for out, optimizer in ((table(ids), sparse), (weight, peer)):
                optimizer.zero_grad()
                out.sin().sum().backward()
                optimizer.step()
        torch.testing.assert_close(table.embeddings(), weight.detach(), rtol=1e-5, atol=1e-6)


def test_only_touched_rows_move_and_absent_gradients_do_not(backend):
    table = table_of(backend)
    optimizer = SparseAdamWTF({"t": table}, lr=0.1)
    table(torch.tensor([7])).sum().backward()
    optimizer.step()
    assert table.embeddings()[1].tolist() == W0[0].tolist()
    before = table.embeddings().clone()
    optimizer.step()  # nothing pending: t moves, rows do not
    assert torch.equal(table.embeddings(), before)
    assert optimizer.state_dict()["t"] == {"t": 2}


def test_accumulation_sums_and_divides_only_when_asked(backend):
    for n, scale in ((1, 2.0), (2, 1.0)):
        table = table_of(backend)
        optimizer = SparseSGD({"t": table}, lr=1.0)
        optimizer.set_grad_accum_steps(n)
        for _ in range(2):
            table(torch.tensor([42, 42])).sum().backward()
        optimizer.step()
        assert table.embeddings()[0].tolist() == (W0[0] - 2 * scale).tolist()
    with pytest.raises(ValueError, match="at least 1; got 0"):
        optimizer.set_grad_accum_steps(0)


def test_zero_grad_discards(backend):
    table = table_of(backend)
    optimizer = SparseSGD({"t": table}, lr=1.0)
    table(ID).sum().backward()
    optimizer.zero_grad()
    optimizer.step()
    assert table.embeddings()[0].tolist() == W0[0].tolist()


def test_lr_schedulers_drive_groups_apart(backend):
    engine = EmbeddingEngine(
        {n: EmbeddingOption(2, backend=backend, initializer=ConstantInitializer(0.0)) for n in ("a", "b")}
    )
    tables = engine.sparse_parameters()
    optimizer = SparseSGD({"a": tables["a"]}, lr=1.0)
    optimizer.add_params({"b": tables["b"]}, lr=10.0)
    scheduler = torch.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda _: 0.5)
    for _ in range(2):
        out = engine({"a": torch.tensor([1]), "b": torch.tensor([1])})
        (out["a"] + out["b"]).sum().backward()
        optimizer.step()
        scheduler.step()
    assert tables["a"].embeddings().tolist() == [[-1.5, -1.5]]
    assert tables["b"].embeddings().tolist() == [[-15.0, -15.0]]
    assert [g["lr"] for g in optimizer.param_groups] == [0.25, 2.5]


def test_state_dict_resumes_bit_for_bit(backend):
    table = table_of(backend)
    optimizer = SparseAdam({"t": table}, lr=0.1)
    train(table, optimizer)
    other = HashTable([2], name="t", backend=backend)
    resumed = SparseAdam({"t": other})
    other.load_state_dict(table.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.param_groups[0]["lr"] == 0.1
    assert torch.equal(train(table, optimizer), train(other, resumed))


def test_nan_gradients_change_nothing_and_say_so(backend):
    table = table_of(backend)
    optimizer = SparseAdam({"t": table})
    for poison in (math.nan, math.inf):
        (table(ID) * poison).sum().backward()
        with pytest.raises(NonFiniteGradient, match=r"table\(s\) t holds NaN or inf; no row was changed"):
            optimizer.step()
        assert table.embeddings()[0].tolist() == W0[0].tolist()
        assert optimizer.state_dict()["t"] == {"t": 0}
        optimizer.zero_grad()
    train(table, optimizer)


def test_closures_are_called(backend):
    table = table_of(backend)
    optimizer = SparseSGD({"t": table}, lr=1.0)

    def closure():
        loss = table(ID).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == -1.0
    assert table.embeddings()[0].tolist() == [0.0, -3.0]


def test_bad_arguments_are_named():
    table = table_of("torch")
    with pytest.raises(TypeError, match="takes {table name: HashTable}"):
        SparseAdam([table])
    with pytest.raises(ValueError, match="at least one table"):
        SparseAdam({})
    with pytest.raises(ValueError, match="lr must be a finite number >= 0; got -1"):
        SparseAdam({"t": table}, lr=-1)
    with pytest.raises(ValueError, match="beta2 must be below 1"):
        SparseAdam({"t": table}, beta2=1.0)
    optimizer = SparseAdam({"t": table})
    with pytest.raises(RecisError, match="belong to another SparseAdam"):
        SparseSGD({"t": table})
    with pytest.raises(ValueError, match="in this optimizer already"):
        optimizer.add_params({"t": table})
    with pytest.raises(ValueError, match=r"hold tables \[\['x'\]\]"):
        optimizer.load_state_dict({"t": {}, "grad_accum_steps": 1, "param_groups": [{"tables": ["x"]}]})


def test_a_table_left_out_of_its_storages_optimizer_is_named(backend):
    engine = EmbeddingEngine({n: EmbeddingOption(2, backend=backend) for n in ("a", "b")})
    optimizer = SparseSGD({"a": engine.table("a")})
    engine({"a": torch.tensor([1]), "b": torch.tensor([1])})["b"].sum().backward()
    with pytest.raises(RecisError, match=r"\['b'\] share one storage with \['a'\] but are in no group"):
        optimizer.step()


def test_storage_in_bfloat16_drifts_by_less_than_its_grain(backend):
    """Stochastic rounding: a thousand steps of a hundredth of the grain arrive; rounding to nearest would lose all."""
    table = HashTable([64], name="t", backend=backend, dtype=torch.bfloat16)
    table.insert(ID, torch.ones(1, 64, dtype=torch.bfloat16))
    optimizer = SparseSGD({"t": table}, lr=1.0)
    steps = 400 if backend != "pallas" else 100
    for _ in range(steps):
        (table(ID) * -(2.0**-13)).sum().backward()
        optimizer.step()
    moved = table.embeddings().float().mean().item() - 1
    assert moved == pytest.approx(steps * 2.0**-13, rel=0.15)
