"""Every scheduler of torch's, with its defaults, on sparse and on joined optimizers: what it sets is what rows move by."""

import inspect

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers

from recis_core.nn import ConstantInitializer, EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdagrad, SparseAdam, SparseAdamW, SparseRowWiseAdagrad, SparseSGD, join

# How each is made, apart from the optimizer; a scheduler that a new torch brings fails until it has a line.
MADE = {
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda k: 0.5**k),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda k: 0.5),
    "StepLR": lambda o: schedulers.StepLR(o, 1),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [1, 3]),
    "ConstantLR": schedulers.ConstantLR,
    "LinearLR": schedulers.LinearLR,
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.5),
    "SequentialLR": lambda o: schedulers.SequentialLR(o, [schedulers.ConstantLR(o), schedulers.LinearLR(o)], [2]),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 4),
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler([schedulers.ConstantLR(o), schedulers.LinearLR(o)]),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, patience=0),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.01, 0.1, step_size_up=2),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 2),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 0.1, total_steps=10),
    "PolynomialLR": schedulers.PolynomialLR,
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.05, anneal_epochs=3),
}
CYCLES = ("CyclicLR", "OneCycleLR")


def engine_of(backend="torch", **options):
    return EmbeddingEngine({"f": EmbeddingOption(2, backend=backend, initializer=ConstantInitializer(0.0), **options)})


def push(engine):
    """A gradient of ones."""
    out = engine({"f": torch.tensor([1])})["f"]
    out.sum().backward()
    return out[0, 0].item()


def advance(scheduler):
    scheduler.step(*([1.0] if isinstance(scheduler, schedulers.ReduceLROnPlateau) else []))


def pair_of(engine, dense_kind, sparse_kind):
    tower = nn.Linear(2, 1)
    return join(dense_kind(tower.parameters(), lr=0.1), sparse_kind(engine.sparse_parameters(), lr=0.1))


def test_every_scheduler_of_torch_is_tried():
    known = {n for n in schedulers.__all__ if n != "LRScheduler" and inspect.isclass(getattr(schedulers, n))}
    assert known <= set(MADE), f"give {sorted(known - set(MADE))} a line in MADE"


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("joined", [False, True])
def test_rows_move_by_the_rate_that_torchs_own_optimizer_has(name, joined):
    engine, weight = engine_of(), nn.Parameter(torch.zeros(1))
    peer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    ours = SparseSGD(engine.sparse_parameters(), lr=0.1, momentum=0.9)
    ours = join(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9), ours) if joined else ours
    both = [MADE[name](peer), MADE[name](ours)]
    for _ in range(6):
        peer.zero_grad()
        weight.sum().backward()
        push(engine)
        for optimizer in (peer, ours):
            optimizer.step()
        for scheduler in both:
            advance(scheduler)
    assert weight.item() != 0
    assert engine.table("f").embeddings()[0, 0].item() == pytest.approx(weight.item(), rel=1e-5)
    for group in ours.param_groups:
        assert group["lr"] == pytest.approx(peer.param_groups[0]["lr"])
        assert group["momentum"] == pytest.approx(peer.param_groups[0]["momentum"])


@pytest.mark.parametrize("name", CYCLES)
def test_betas_cycle_as_torchs_adamw_does(name):
    engine, weight = engine_of(), nn.Parameter(torch.zeros(1))
    peer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0)
    ours = SparseAdamW(engine.sparse_parameters(), lr=0.1, weight_decay=0.0)
    both = [MADE[name](peer), MADE[name](ours)]
    for _ in range(6):
        peer.zero_grad()
        weight.sum().backward()
        push(engine)
        for thing in (peer, ours, *both):
            thing.step()
    assert peer.param_groups[0]["betas"][0] != 0.9
    [group] = ours.param_groups
    assert group["betas"] == pytest.approx(peer.param_groups[0]["betas"])
    assert (group["beta1"], group["beta2"]) == group["betas"]
    assert engine.table("f").embeddings()[0, 0].item() == pytest.approx(weight.item(), rel=1e-4)


DENSE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad, torch.optim.RMSprop)
SPARSE = (SparseSGD, SparseAdam, SparseAdamW, SparseAdagrad, SparseRowWiseAdagrad)


@pytest.mark.parametrize("name", CYCLES)
@pytest.mark.parametrize("dense", DENSE)
@pytest.mark.parametrize("sparse", SPARSE)
def test_momentum_cycles_in_every_pair_that_has_any(name, dense, sparse):
    engine = engine_of()
    optimizer = pair_of(engine, dense, sparse)
    if dense is torch.optim.Adagrad and sparse in (SparseAdagrad, SparseRowWiseAdagrad):
        with pytest.raises(ValueError, match="momentum"):
            MADE[name](optimizer)
        return
    scheduler, before = MADE[name](optimizer), []
    for _ in range(3):
        push(engine)
        optimizer.step()
        scheduler.step()
        before.append(engine.table("f").embeddings()[0, 0].item())
    moved = [(g.get("momentum"), g.get("betas")) for g in optimizer.param_groups]
    if sparse in (SparseSGD, SparseAdam, SparseAdamW) and "momentum" in optimizer.defaults:
        assert moved[1][0] == pytest.approx(optimizer.param_groups[0]["momentum"])
    assert len(set(before)) == 3
    assert set(engine.table("f").slot_group().slot_names()) == {
        SparseSGD: {"momentum"}, SparseAdam: {"m", "v"}, SparseAdamW: {"m", "v"},
    }.get(sparse, {"sum"})  # fmt: skip


def test_without_momentum_on_either_side_a_cycle_is_refused_as_by_torch():
    for optimizer in (SparseAdagrad(engine_of().sparse_parameters()),):
        with pytest.raises(ValueError, match="momentum"):
            schedulers.OneCycleLR(optimizer, 0.1, total_steps=3)


def test_momentum_that_comes_later_gets_its_slot(eager_backend):
    """torch.optim.SGD makes momentum buffers when a group first has momentum."""
    engine, weight = engine_of(eager_backend), nn.Parameter(torch.zeros(1))
    ours, peer = SparseSGD(engine.sparse_parameters(), lr=0.1), torch.optim.SGD([weight], lr=0.1)
    for k in range(4):
        if k == 1:
            ours.param_groups[0]["momentum"] = peer.param_groups[0]["momentum"] = 0.5
        peer.zero_grad()
        weight.sum().backward()
        push(engine)
        ours.step()
        peer.step()
    assert engine.table("f").embeddings()[0, 0].item() == pytest.approx(weight.item(), rel=1e-5)


def test_a_rate_may_be_a_tensor(eager_backend):
    rows = []
    for rate in (0.5, torch.tensor(0.5)):
        engine = engine_of(eager_backend)
        optimizer = SparseAdam(engine.sparse_parameters(), lr=rate, betas=(0.8, 0.9))
        scheduler = schedulers.ExponentialLR(optimizer, 0.5)
        for _ in range(3):
            push(engine)
            optimizer.step()
            scheduler.step()
        rows.append(engine.table("f").embeddings())
        assert optimizer.state_dict()["param_groups"][0]["lr"] == 0.0625
    assert torch.equal(*rows)
