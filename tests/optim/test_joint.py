"""Dense and sparse as one: GradScaler, clipping, schedulers, DDP and FSDP2 at world size 1."""

import copy
import math

import pytest
import torch
import torch.distributed as dist
from torch import nn

from recis_core.backends.errors import NonFiniteGradient, RecisError
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam, SparseSGD, clip_grad_norm_, join

IDS = torch.tensor([1, 2, 2])


class Model(nn.Module):
    def __init__(self, backend):
        super().__init__()
        torch.manual_seed(0)
        self.engine = EmbeddingEngine({"f": EmbeddingOption(4, backend=backend)})
        self.tower = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, ids):
        return self.tower(self.engine({"f": ids})["f"]).sum(1)  # not a view, of which FSDP2 warns


def build(backend, dense=torch.optim.SGD, sparse=SparseSGD, **kwargs):
    model = Model(backend)
    return model, join(dense(model.parameters(), lr=0.1), sparse(model.engine.sparse_parameters(), lr=0.1, **kwargs))


def weights_of(model):
    return [p.detach().clone() for p in model.parameters()] + [model.engine.table("f").embeddings().float().clone()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_joint_step_moves_both(backend):
    model, optimizer = build(backend)
    model(IDS).sum().backward()
    before = weights_of(model)
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before[2:], weights_of(model)[2:], strict=True))


def test_a_scaled_run_equals_an_unscaled_one(backend):
    """Powers of two scale exactly, so the bits are those of plain training."""
    runs = []
    for scale in (None, 2.0**10):
        model, optimizer = build(backend)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        for k in range(4):
            optimizer.zero_grad()
            scaler.scale(model(IDS).square().sum()).backward()
            if k % 2:  # with and without an explicit unscale
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        runs.append(weights_of(model))
    assert same(*runs)


@pytest.mark.parametrize("side", ["dense", "sparse"])
def test_an_inf_on_either_side_skips_both(backend, side):
    model, optimizer = build(backend)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(model(IDS).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    before = weights_of(model)
    optimizer.zero_grad()
    if side == "dense":
        loss = model(IDS).sum() + model.tower[0].bias.sum() * math.inf
    else:
        loss = model(IDS).sum() + (model.engine({"f": IDS})["f"] * math.inf).sum()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert same(before, weights_of(model))
    assert scaler.get_scale() == 4.0
    optimizer.zero_grad()
    scaler.scale(model(IDS).sum()).backward()
    scaler.step(optimizer)
    assert not same(before, weights_of(model))


def test_a_sparse_optimizer_alone_is_refused_by_name(backend):
    model = Model(backend)
    sparse = SparseAdam(model.engine.sparse_parameters())
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model(IDS).sum()).backward()
    with pytest.raises(RecisError, match=r"SparseAdam cannot be stepped by a GradScaler alone.*optim.join"):
        scaler.step(sparse)


def test_without_a_scaler_nan_moves_neither_side(backend):
    model, optimizer = build(backend)
    model(IDS)
    before = weights_of(model)
    (model.engine({"f": IDS})["f"] * math.nan).sum().backward()
    with pytest.raises(NonFiniteGradient, match="optim.join"):
        optimizer.step()
    assert same(before, weights_of(model))


def reference_norm(model):
    dense = sum(p.grad.double().square().sum() for p in model.tower.parameters())
    return math.sqrt(float(dense + model.engine.table("f").grad()[1].double().square().sum()))


def test_clipping_by_the_norm_over_both(backend):
    model, optimizer = build(backend)
    model(IDS).sum().mul(10).backward()
    norm = reference_norm(model)
    dense = [p.grad.clone() for p in model.tower.parameters()]
    rows, before = model.engine.table("f").grad()[1], model.engine.table("f").embeddings().clone()
    got = clip_grad_norm_(optimizer, 0.5)
    assert float(got) == pytest.approx(norm, rel=1e-6)
    for p, g in zip(model.tower.parameters(), dense, strict=True):
        torch.testing.assert_close(p.grad, g * 0.5 / norm, rtol=1e-5, atol=1e-8)
    optimizer.step()
    moved = (before - model.engine.table("f").embeddings()).square().sum().sqrt()
    assert float(moved) == pytest.approx(0.1 * float(rows.square().sum().sqrt()) * 0.5 / norm, rel=1e-4)


def test_clipping_after_unscale_sees_true_norms(backend):
    model, optimizer = build(backend)
    model(IDS).sum().backward()
    norm = reference_norm(model)
    optimizer.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    scaler.scale(model(IDS).sum()).backward()
    scaler.unscale_(optimizer)
    assert float(clip_grad_norm_(optimizer, 1e9)) == pytest.approx(norm, rel=1e-6)
    assert float(clip_grad_norm_(model.parameters(), 1e9, sparse=optimizer.sparse)) == pytest.approx(norm, rel=1e-6)


def test_clipping_checks_its_arguments(backend):
    model, optimizer = build(backend)
    with pytest.raises(ValueError, match="max_norm must be > 0; got 0"):
        clip_grad_norm_(optimizer, 0)
    (model(IDS) * math.inf).sum().backward()
    with pytest.raises(RuntimeError, match="the gradient norm is"):
        clip_grad_norm_(optimizer, 1.0, error_if_nonfinite=True)


def test_schedulers_and_states_cover_both(backend):
    model, optimizer = build(backend, torch.optim.Adam, SparseAdam)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for _ in range(2):
        optimizer.zero_grad()
        model(IDS).sum().backward()
        optimizer.step()
        scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == [0.025, 0.025]
    other, twin = build(backend, torch.optim.Adam, SparseAdam)
    other.load_state_dict(model.state_dict())
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch would share its tensors
    assert [g["lr"] for g in twin.param_groups] == [0.025, 0.025]
    for m, o in ((model, optimizer), (other, twin)):
        o.zero_grad()
        m(IDS).square().sum().backward()
        o.step()
    assert same(weights_of(model), weights_of(other))


def test_join_names_what_it_takes(backend):
    model, optimizer = build(backend)
    with pytest.raises(TypeError, match=r"\(dense, sparse\) optimizers; got SparseSGD, SGD"):
        join(optimizer.sparse, optimizer.dense)


@pytest.fixture
def world_of_one(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def train_three(model, optimizer, forward):
    for _ in range(3):
        optimizer.zero_grad()
        forward(IDS).square().sum().backward()
        clip_grad_norm_(optimizer, 0.1)
        optimizer.step()


def test_ddp_at_world_one_trains_the_same(backend, world_of_one):
    model, optimizer = build(backend)
    train_three(model, optimizer, model)
    wrapped, twin = build(backend)
    train_three(wrapped, twin, nn.parallel.DistributedDataParallel(wrapped))
    assert same(weights_of(model), weights_of(wrapped))


def test_fsdp2_at_world_one_trains_the_same(backend, world_of_one):
    from torch.distributed.fsdp import fully_shard

    model, optimizer = build(backend)
    train_three(model, optimizer, model)
    sharded = Model(backend)
    mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
    fully_shard(sharded.tower, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    twin = join(torch.optim.SGD(sharded.parameters(), lr=0.1), SparseSGD(sharded.engine.sparse_parameters(), lr=0.1))
    train_three(sharded, twin, sharded)
    full = [p.full_tensor() for p in sharded.parameters()] + [sharded.engine.table("f").embeddings()]
    for a, b in zip(weights_of(model), full, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_no_parameter_of_the_engine_is_seen_by_wrappers(backend):
    model, _ = build(backend)
    assert not list(model.engine.parameters())
