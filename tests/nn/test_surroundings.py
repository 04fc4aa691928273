"""What PyTorch does around modules: devices and dtypes by default, grad modes, transforms, copies, wrappers."""

import contextlib
import gc
import warnings

import pytest
import torch
from torch import nn

from recis_core.backends.errors import RecisError
from recis_core.nn import EmbeddingEngine, EmbeddingOption, HashTable
from recis_core.optim import SparseAdam, SparseSGD, clip_grad_norm_, join
from recis_core.ragged import RaggedTensor

IDS = torch.tensor([3, 4, 3])
NEW, ROW = torch.tensor([9]), torch.zeros(1, 4)
RAGGED = RaggedTensor(torch.tensor([1, 2, 3]), torch.tensor([0, 2, 3]), weight=torch.tensor([1.0, 2.0, 3.0]))


@contextlib.contextmanager
def by_default(device=None, dtype=None):
    torch.set_default_device(device)
    torch.set_default_dtype(dtype or torch.float32)
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


AROUND = {
    "nothing": contextlib.nullcontext,
    "with meta": lambda: torch.device("meta"),
    "with cpu": lambda: torch.device("cpu"),
    "default meta": lambda: by_default(device="meta"),
    "default cpu": lambda: by_default(device="cpu"),
    "default float64": lambda: by_default(dtype=torch.float64),
    "default bfloat16": lambda: by_default(dtype=torch.bfloat16),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def built(backend):
    tile = {"combiner": "tile", "combiner_kwargs": {"tile_len": 2}}
    kinds = ({}, {"combiner": "mean"}, tile, {"combiner": "none", "dtype": torch.bfloat16})
    return EmbeddingEngine({f"f{k}": EmbeddingOption(4, backend=backend, **kind) for k, kind in enumerate(kinds)})


def used(engine):
    """Outputs of two steps, and all state after them."""
    optimizer = SparseAdam(engine.sparse_parameters(), lr=0.1)
    features = {"f0": IDS, "f1": RAGGED, "f2": RAGGED, "f3": RAGGED}
    for _ in range(2):
        out = engine(features)
        with torch.autocast("cpu", enabled=False):
            (out["f0"].sum() + out["f1"].sum() + out["f2"].sum() + out["f3"].values().sum()).backward()
        clip_grad_norm_([], 100.0, sparse=optimizer)
        optimizer.step()
    values = {k: v.values() if isinstance(v, RaggedTensor) else v for k, v in out.items()}
    values |= engine.state_dict()
    values |= {f"{k} again": v for k, v in loaded(engine).items()}
    return {k: v.detach() for k, v in values.items()}


def loaded(engine):
    other = built(engine.options["f0"].backend)
    other.load_state_dict(engine.state_dict())
    other.table("f0").insert(NEW, ROW)
    return other.state_dict()


@pytest.mark.parametrize("when", ["built", "used", "both"])
def test_defaults_of_torch_change_nothing_of_tables(eager_backend, when):
    expected = used(built(eager_backend))
    for name, around in AROUND.items():
        with around() if when != "used" else contextlib.nullcontext():
            engine = built(eager_backend)
        with around() if when != "built" else contextlib.nullcontext():
            got = used(engine)
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            assert (got[key].dtype, got[key].device.type) == (value.dtype, "cpu"), (name, key)
            assert torch.equal(got[key], value), (name, key)


def test_a_table_is_never_made_on_the_meta_device():
    for make in (lambda: EmbeddingOption(4, device="meta"), lambda: HashTable([4], device=torch.device("meta"))):
        with pytest.raises(ValueError, match="device must be one with memory"):
            make()
    with torch.device("meta"):
        model = nn.ModuleList([nn.Linear(2, 2), EmbeddingEngine({"a": EmbeddingOption(2, backend="torch")})])
    assert model[0].weight.is_meta
    assert model.to_empty(device="cpu")[1]({"a": IDS})["a"].shape == (3, 2)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_grad_modes_leave_a_table_that_trains_on(eager_backend, training, mode):
    engine = EmbeddingEngine({"a": EmbeddingOption(4, backend=eager_backend, block_size=8)})
    optimizer = SparseAdam(engine.sparse_parameters(), lr=0.1)
    engine.train(training)
    with mode():
        out = engine({"a": torch.arange(3000)})["a"]
        assert out.requires_grad is (training and mode is torch.enable_grad)
        assert len(engine.table("a").ids()) == (3000 if training else 0)
    engine.train()
    engine({"a": torch.arange(10)})["a"].sum().backward()
    before = engine.table("a").embeddings()[:10].clone()
    optimizer.step()
    torch.testing.assert_close(before - engine.table("a").embeddings()[:10], torch.full((10, 4), 0.1))
    with torch.inference_mode():
        optimizer.zero_grad()
        engine.state_dict()
        engine.table("a").insert(torch.tensor([9999]), torch.zeros(1, 4))
    engine({"a": torch.arange(9990, 9999)})["a"].sum().backward()
    optimizer.step()


class Model(nn.Module):
    def __init__(self, backend="torch"):
        super().__init__()
        self.engine = EmbeddingEngine({"a": EmbeddingOption(4, backend=backend)})
        self.tower = nn.Linear(4, 1)

    def forward(self, ids):
        return self.tower(self.engine({"a": ids})["a"])


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_traces_and_exports_are_refused_in_words():
    for model in (Model(), HashTable([4], name="a", backend="torch")):
        for record in (
            lambda m: torch.jit.script(m),
            lambda m: torch.jit.trace(m, (IDS,)),
            lambda m: torch.export.export(m, (IDS,), strict=False),
        ):
            with pytest.raises(RecisError, match=r"looked up in Python\. \w+ the dense part"):
                record(model)
    with pytest.raises(TypeError, match="got Proxy"):
        torch.fx.symbolic_trace(Model())


def test_transforms_are_refused_over_a_lookup_and_work_beside_one():
    model = Model()
    dense = dict(model.tower.named_parameters(prefix="tower"))
    assert torch.equal(torch.func.functional_call(model, dense, (IDS,)), model(IDS))
    for transformed in (
        lambda: torch.func.grad(lambda p: torch.func.functional_call(model, p, (IDS,)).sum())(dense),
        lambda: torch.vmap(model)(IDS[:, None]),
        lambda: torch.func.jvp(lambda x: model(IDS).sum() * x, (torch.ones(1),), (torch.ones(1),)),
        lambda: torch.func.jacrev(lambda x: model.engine.table("a")(IDS).sum() * x)(torch.ones(1)),
    ):
        with pytest.raises(RecisError, match="Look rows up outside"):
            transformed()
    out = model.engine({"a": IDS})["a"].detach()
    bare = {name.removeprefix("tower."): p for name, p in dense.items()}
    loss = lambda p: torch.func.functional_call(model.tower, p, (out,)).sum()  # noqa: E731
    assert set(torch.func.grad(loss)(bare)) == {"weight", "bias"}


def test_an_average_of_a_model_is_refused_and_one_of_its_tower_works():
    model = Model()
    with pytest.raises(RecisError, match=r"AveragedModel\(model\.tower\)"):
        torch.optim.swa_utils.AveragedModel(model)
    average = torch.optim.swa_utils.AveragedModel(model.tower)
    average.update_parameters(model.tower)
    assert torch.equal(average.module.weight, model.tower.weight)


def test_parametrizations_of_a_table_find_no_parameter():
    table = Model().engine.table("a")
    for wrap in (
        lambda: nn.utils.parametrize.register_parametrization(table, "weight", nn.Identity()),
        lambda: nn.utils.parametrizations.weight_norm(table),
        lambda: nn.utils.parametrizations.spectral_norm(table),
    ):
        with pytest.raises((ValueError, AttributeError), match="weight"):
            wrap()


def test_data_parallel_without_devices_is_the_model():
    model = Model()
    assert torch.equal(nn.DataParallel(model)(IDS), model(IDS))


# Gradients that no optimizer takes


def push(model, ids=IDS):
    model(ids).sum().backward()


def test_the_second_backward_without_an_optimizer_says_so_once(eager_backend):
    model = Model(eager_backend)
    push(model)
    with pytest.warns(
        UserWarning, match=r"tables a wait for an optimizer.*SparseAdam\(filter_out_sparse_param\(model\)\)"
    ):
        push(model)
    for _ in range(3):
        push(model)
    push(Model(eager_backend))


@pytest.mark.filterwarnings("ignore:gradients of tables")
@pytest.mark.parametrize("reduce_by", ["worker", "id"])
def test_they_are_kept_as_one_and_a_later_optimizer_takes_them_all(eager_backend, reduce_by):
    def engine_of():
        return EmbeddingEngine({"a": EmbeddingOption(4, backend=eager_backend, grad_reduce_by=reduce_by)})

    engine, other = engine_of(), engine_of()
    optimizer = SparseSGD(other.sparse_parameters(), lr=0.125)
    for k in range(50):
        for one in (engine, other):
            (one({"a": torch.tensor([k % 7, k % 5, 1])})["a"] * 0.5).sum().backward()
        assert len(engine.table("a").physical.unapplied.gradients) <= 8
    torch.testing.assert_close(engine.table("a").grad()[1], other.table("a").grad()[1])
    late = SparseSGD(engine.sparse_parameters(), lr=0.125)
    late.step(), optimizer.step()
    torch.testing.assert_close(engine.table("a").embeddings(), other.table("a").embeddings())


def test_nothing_is_said_of_what_trains_or_is_read_by_hand():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Model()
        for _ in range(3):
            push(model)
            model.engine.table("a").grad()
            model.engine.table("a").clear_grad()
        out = model(IDS).sum()
        out.backward(retain_graph=True)
        out.backward()  # of one forward
        model.zero_grad()
        (model(IDS) + model(IDS)).sum().backward()  # of one backward
        frozen = Model().requires_grad_(False)
        for _ in range(3):
            assert not frozen(IDS).requires_grad
        optimizer = SparseSGD(model.engine.sparse_parameters())
        for _ in range(3):
            push(model)
        optimizer.step()


def test_an_optimizer_that_is_gone_is_none():
    model = Model()
    optimizer = join(torch.optim.SGD(model.tower.parameters()), SparseSGD(model.engine.sparse_parameters()))
    push(model)
    push(model)
    del optimizer
    gc.collect()
    with pytest.warns(UserWarning, match="wait for an optimizer"):
        push(model)
