"""Each member of nn.Module on tables: works, with the effect that it has in torch, or raises with the way out.

The members are torch's own list, so one that a new torch brings fails here until it is decided, in docs/pytorch-verbs.md and
below.
"""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from recis_core.backends.errors import RecisError
from recis_core.nn import DynamicEmbedding, EmbeddingEngine, EmbeddingOption, HashTable
from recis_core.optim import SparseAdam, SparseSGD, join
from tests.hygiene.verbs_table import decided, members_of

IDS = torch.tensor([1, 2])
OF_SOME_TORCHES = {"ipu", "mtia", "xpu", "set_submodule", "_wrapped_call_impl", "dump_patches"}


def option(**options):
    return EmbeddingOption(4, backend="torch", **options)


class Model(nn.Module):
    """A user's."""

    def __init__(self, *names, **options):
        super().__init__()
        self.engine = EmbeddingEngine({name: option(**options) for name in names or ("a",)})
        self.tower = nn.Linear(4, 1)

    def forward(self, ids=IDS):
        return self.tower(sum(self.engine(dict.fromkeys(self.engine.options, ids)).values()))


def engine_of(*names):
    return Model(*names).engine


def rows(engine, name="a"):
    return engine.table(name).embeddings().clone()


def pending(engine, name="a"):
    return len(engine.table(name).grad()[0])


def three():
    """A table, an engine and a DynamicEmbedding."""
    return HashTable([4], name="a", backend="torch"), engine_of(), DynamicEmbedding(option())


def calls():
    model = Model()
    assert model().shape == (2, 1)
    assert model.engine.table("a").ids().tolist() == [1, 2]


def train_and_eval():
    model = Model()
    model()
    model.eval()
    model(IDS + 1)
    assert model.engine.table("a").ids().tolist() == [1, 2]
    assert not model.engine({"a": IDS})["a"].requires_grad
    model.train()
    model.engine.table("a").eval()
    model(IDS + 5)
    assert model.engine.table("a").ids().tolist() == [1, 2]


def requires_grad():
    for part in (lambda m: m, lambda m: m.engine, lambda m: m.engine.table("a")):
        model = Model()
        optimizer = SparseAdam(model.engine.sparse_parameters(), lr=0.1)
        model()
        before, tower = rows(model.engine), model.tower.weight.requires_grad
        assert part(model).requires_grad_(False) is part(model)
        assert not model.engine.table("a").requires_grad
        assert not model.engine({"a": IDS})["a"].requires_grad
        assert model.tower.weight.requires_grad is (tower and part(model) is not model)
        (model.tower(model.engine({"a": IDS + 5})["a"]).sum() * torch.ones(1, requires_grad=True)).backward()
        assert pending(model.engine) == 0
        optimizer.step()
        assert optimizer.state_dict()["t"] == {"a": 0}
        assert model.engine.table("a").ids().tolist() == [1, 2, 6, 7]
        part(model).requires_grad_()
        model.zero_grad()
        model.engine({"a": IDS})["a"].sum().backward()
        optimizer.step()
        torch.testing.assert_close(before - rows(model.engine)[:2], torch.full((2, 4), 0.1))
        assert torch.equal(rows(model.engine)[2:], model.engine({"a": IDS + 5})["a"])


def requires_grad_of_one_of_several():
    model = Model("a", "b")
    optimizer = SparseSGD(model.engine.sparse_parameters(), lr=1.0)
    model()
    before = rows(model.engine, "a"), rows(model.engine, "b")
    model.engine.table("a").requires_grad = False
    out = model.engine({"a": IDS, "b": IDS})
    assert [o.requires_grad for o in out.values()] == [False, True]
    (out["a"] + out["b"]).sum().backward()
    optimizer.step()
    assert torch.equal(before[0], rows(model.engine, "a"))
    torch.testing.assert_close(before[1] - rows(model.engine, "b"), torch.ones(2, 4))
    frozen = Model(trainable=False)
    assert not frozen.engine.table("a").requires_grad
    assert frozen.requires_grad_().engine({"a": IDS})["a"].requires_grad
    frozen.engine.table("a").trainable = False
    assert not frozen.engine.table("a").requires_grad


def zero_grad():
    for part in (lambda m: m, lambda m: m.engine, lambda m: m.engine.table("a")):
        for joined in (False, True):
            model = Model()
            sparse = SparseSGD(model.engine.sparse_parameters(), lr=1.0)
            optimizer = join(torch.optim.SGD(model.tower.parameters(), lr=1.0), sparse) if joined else sparse
            model().sum().backward()
            before = rows(model.engine)
            optimizer.param_groups[-1]["params"][0].grad.mul_(0.25)
            part(model).zero_grad()
            assert pending(model.engine) == 0
            assert (model.tower.weight.grad is None) is (part(model) is model)
            model.engine({"a": IDS})["a"].sum().backward()
            sparse.step()  # by what it was scaled before is dropped, too
            torch.testing.assert_close(before - rows(model.engine), torch.ones(2, 4))
    engine = engine_of("a", "b")
    sum(engine({"a": IDS, "b": IDS}).values()).sum().backward()
    with pytest.raises(RecisError, match=r"tables a share storage with b.*Call it on the engine"):
        engine.table("a").zero_grad()
    assert pending(engine, "a") == 2
    engine.zero_grad(set_to_none=False)
    assert pending(engine, "a") == pending(engine, "b") == 0


def dense_parts_alone():
    model = Model()
    assert set(dict(model.named_parameters())) == {"tower.weight", "tower.bias"}
    assert not list(model.engine.parameters())
    assert not list(model.engine.buffers())
    assert not list(model.engine.named_buffers())
    assert list(model.engine.sparse_parameters()) == ["a"]


def submodules():
    model = Model()
    table, seen = model.engine.table("a"), []
    assert model.get_submodule("engine.tables.a") is table
    assert table in list(model.modules())
    assert dict(model.named_modules())["engine.tables.a"] is table
    assert dict(model.engine.tables.named_children()) == {"a": table}
    assert list(model.engine.tables.children()) == [table]
    model.apply(seen.append)
    assert table in seen


def children_added():
    engine = engine_of()
    engine.add_module("head", nn.Linear(4, 1))
    engine.register_module("tail", nn.Linear(1, 1))
    engine.extra = nn.Linear(2, 2)
    engine.table("a").scale = nn.Linear(1, 1)
    other = engine_of()
    other.add_module("head", nn.Linear(4, 1)), other.add_module("tail", nn.Linear(1, 1))
    other.extra, other.table("a").scale = nn.Linear(2, 2), nn.Linear(1, 1)
    engine({"a": IDS})
    other.load_state_dict(engine.state_dict())
    assert torch.equal(other.head.weight, engine.head.weight)
    assert torch.equal(other.table("a").scale.weight, engine.table("a").scale.weight)
    assert torch.equal(rows(other), rows(engine))
    if hasattr(engine, "set_submodule"):
        engine.set_submodule("head", nn.Linear(4, 2))
        assert engine.head.out_features == 2
    for change in (
        lambda: engine.set_submodule("tables.a", nn.Linear(1, 1)),
        lambda: engine.tables.add_module("b", nn.Linear(1, 1)),
        lambda: engine.tables.register_module("b", nn.Linear(1, 1)),
        lambda: setattr(engine.tables, "b", nn.Linear(1, 1)),
        lambda: setattr(engine.tables, "a", None),
        lambda: delattr(engine.tables, "a"),
    ):
        with pytest.raises(RecisError, match="made with it"):
            change()
    assert list(engine.sparse_parameters()) == ["a"]


def parameters_added():
    for make in (lambda: engine_of(), lambda: engine_of().table("a")):
        one, other = make(), make()
        for module in (one, other):
            module.register_parameter("own", nn.Parameter(torch.zeros(2)))
            module.register_buffer("seen", torch.zeros(2))
            module.set = nn.Parameter(torch.zeros(1))
        one.own.data.fill_(3.0), one.seen.fill_(2.0)
        one(IDS if isinstance(one, HashTable) else {"a": IDS})
        other.load_state_dict(one.state_dict())
        assert other.own.tolist() == [3.0, 3.0]
        assert other.get_parameter("own") is other.own
        assert other.get_buffer("seen").tolist() == [2.0, 2.0]
        assert len(list(other.parameters())) == 2
        with pytest.raises(RuntimeError, match="own"):
            other.load_state_dict({k: v for k, v in one.state_dict().items() if not k.endswith("own")})
        with pytest.raises(RuntimeError, match="odd"):
            other.load_state_dict({**one.state_dict(), "odd": torch.ones(1)})
    for name in ("tables.a", "tables.a.weight"):
        with pytest.raises(AttributeError):
            engine_of().get_parameter(name)
        with pytest.raises(AttributeError):
            engine_of().get_buffer(name)


def python_protocol():
    engine = engine_of()
    assert "HashTable('a', dim=4, backend='torch', device=cpu)" in repr(engine)
    assert engine._get_name() == "EmbeddingEngine"
    assert "dim=4" in engine.table("a").extra_repr()
    engine.note = 1
    assert "note" in dir(engine)
    del engine.note
    with pytest.raises(AttributeError):
        engine.note  # noqa: B018
    assert all(hasattr(engine, name) for name in dir(engine))  # as torch.jit looks


def state_dicts():
    model, other = Model(), Model()
    model()
    other.load_state_dict(model.state_dict(keep_vars=True), assign=True)
    assert torch.equal(rows(model.engine), rows(other.engine))
    assert other.load_state_dict({}, strict=False).missing_keys
    assert torch.equal(rows(model.engine), rows(other.engine))
    assert next(iter(model.engine.state_dict(prefix="p."))).startswith("p.tables.a.slices.")


def hooked(module):
    calls = []
    module.register_state_dict_pre_hook(lambda m, prefix, keep: calls.append("save"))
    module.register_state_dict_post_hook(lambda m, state, prefix, meta: state.update(mark=torch.ones(1)))
    module._register_state_dict_hook(lambda m, state, prefix, meta: calls.append("private"))
    module.register_load_state_dict_pre_hook(lambda m, state, *_: calls.append(state.pop("mark").item()))
    module.register_load_state_dict_post_hook(lambda m, keys: calls.append("loaded"))
    module.load_state_dict(module.state_dict())
    return calls


def state_dict_hooks():
    for module in (engine_of(), engine_of().table("a"), Model()):
        assert hooked(module) == ["save", "private", 1.0, "loaded"]
    table, other = engine_of().table("a"), engine_of().table("a")
    table(IDS)
    renamed = {"old." + key: value for key, value in table.state_dict().items()}

    def rename(module, state, prefix, *_):
        for key in list(state):
            state[key.replace("old.", "")] = state.pop(key)

    other.register_load_state_dict_pre_hook(rename)
    other._register_load_state_dict_pre_hook(lambda state, *_: None)
    other.load_state_dict(renamed)
    assert torch.equal(other.embeddings(), table.embeddings())


class Kept(HashTable):
    def get_extra_state(self):
        return {"note": torch.tensor(7)}

    def set_extra_state(self, state):
        self.note = state["note"]


def extra_state():
    table = Kept([4], name="a", backend="torch")
    table(IDS)
    state = table.state_dict()
    assert "_extra_state" in state
    other = Kept([4], name="a", backend="torch")
    other.load_state_dict(state)
    assert other.note == 7
    assert torch.equal(table.embeddings(), other.embeddings())
    del state["_extra_state"]
    with pytest.raises(RuntimeError, match="_extra_state"):
        other.load_state_dict(state)


def forward_hooks():
    engine = engine_of()
    engine.register_forward_pre_hook(lambda m, args: ({"a": args[0]["a"] + 10},))
    engine.register_forward_hook(lambda m, args, out: {**out, "more": 1})
    assert engine({"a": IDS})["more"] == 1
    assert engine.table("a").ids().tolist() == [11, 12]


def backward_hooks():
    for verb in ("register_full_backward_hook", "register_full_backward_pre_hook", "register_backward_hook"):
        with pytest.raises(RecisError, match=r"gives a dict.*register_hook\(hook\)"):
            getattr(engine_of(), verb)(lambda *_: None)
    seen = []
    for module in (HashTable([4], name="a", backend="torch"), DynamicEmbedding(option())):
        module.register_full_backward_hook(lambda m, given, grads: seen.append(grads[0].sum().item()))
        module.register_full_backward_pre_hook(lambda m, grads: (grads[0] * 2,))
        with pytest.warns(UserWarning, match="Full backward hook is firing"):
            module(IDS).sum().backward()
    assert seen == [16.0, 16.0]
    assert module.engine.table("embedding").grad()[1].tolist() == [[2.0] * 4] * 2
    table = HashTable([4], name="a", backend="torch")
    table.register_backward_hook(lambda m, given, grads: seen.append("once"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that these hooks will go
        table(IDS).sum().backward()
    assert seen[-1] == "once"


def moves():
    meta = torch.device("meta")
    verbs = {
        "to": (
            lambda m: m.to(meta),
            lambda m: m.to(torch.bfloat16),
            lambda m: m.to(torch.ones(1, dtype=torch.float64)),
        ),
        "type": (lambda m: m.type(torch.float64), lambda m: m.type("torch.HalfTensor")),
        "half": (lambda m: m.half(),),
        "double": (lambda m: m.double(),),
        "bfloat16": (lambda m: m.bfloat16(),),
        "cuda": (lambda m: m.cuda(), lambda m: m.cuda(0), lambda m: m.to("cuda:1")),
        "xpu": (lambda m: m.xpu(),),
        "ipu": (lambda m: m.ipu(),),
        "mtia": (lambda m: m.mtia(),),
        "to_empty": (lambda m: m.to_empty(device="cpu"),),
    }
    for name, forms in verbs.items():
        for move in forms if hasattr(nn.Module, name) else ():
            for module in three():
                with pytest.raises(RecisError, match=r"EmbeddingOption\((device|dtype)="):
                    move(module)
    for module in three():
        assert module.to("cpu") is module.cpu() is module.float() is module.to(torch.float32) is module
    with pytest.raises(RecisError, match=r"torch.bfloat16; they cannot be cast to torch.float32.*output_dtype"):
        Model(dtype=torch.bfloat16).engine.float()


def moves_of_a_model():
    model = Model(output_dtype=torch.bfloat16).bfloat16()
    assert model().dtype == torch.bfloat16
    assert rows(model.engine).dtype == torch.float32
    before = rows(model.engine)
    model.to_empty(device="cpu")
    assert torch.equal(rows(model.engine), before)
    model.to("meta")
    assert model.tower.weight.is_meta
    assert model.engine.table("a").physical.device.type == "cpu"
    model.engine._apply(lambda t: t)
    with pytest.raises(ValueError, match="are on meta; table 'a' is on cpu"):
        model(torch.zeros(2, dtype=torch.int64, device="meta"))


def share_memory():
    for module in (*three(), Model()):
        with pytest.raises(RecisError, match="Start a process group"):
            module.share_memory()


def compiles():
    torch._dynamo.reset()
    model = Model()
    model.compile(backend="eager")
    assert model._compiled_call_impl is not None
    model().sum().backward()
    assert pending(model.engine) == 2
    engine = engine_of()
    engine.compile(backend="eager")
    assert engine({"a": IDS})["a"].requires_grad


def replicas():
    for module in three():
        with pytest.raises(RecisError, match="DistributedDataParallel"):
            module._replicate_for_data_parallel()


def pickles():
    for module in (*three(), Model()):
        for verb in (pickle.dumps, copy.deepcopy):
            with pytest.raises(RecisError, match=r"cannot be (pickled|deep-copied).*state_dict\(\)"):
                verb(module)


def data():
    engine = engine_of()
    assert (engine._version, engine.call_super_init, engine.T_destination) == (
        nn.Module._version, nn.Module.call_super_init, nn.Module.T_destination,
    )  # fmt: skip


HOLD = {
    calls: "forward __call__ _call_impl _wrapped_call_impl _slow_forward",
    train_and_eval: "train eval",
    requires_grad: "requires_grad_",
    zero_grad: "zero_grad",
    dense_parts_alone: "parameters named_parameters buffers named_buffers _named_members",
    submodules: "modules named_modules children named_children get_submodule apply",
    children_added: "add_module register_module set_submodule",
    parameters_added: "register_parameter register_buffer get_parameter get_buffer",
    python_protocol: "__init__ __getattr__ __setattr__ __delattr__ __dir__ __repr__ extra_repr _get_name",
    state_dicts: "state_dict _save_to_state_dict load_state_dict _load_from_state_dict",
    state_dict_hooks: "register_state_dict_pre_hook register_state_dict_post_hook _register_state_dict_hook "
    "register_load_state_dict_pre_hook register_load_state_dict_post_hook _register_load_state_dict_pre_hook",
    extra_state: "get_extra_state set_extra_state",
    forward_hooks: "register_forward_hook register_forward_pre_hook",
    backward_hooks: "register_full_backward_hook register_full_backward_pre_hook register_backward_hook "
    "_get_backward_hooks _get_backward_pre_hooks _maybe_warn_non_full_backward_hook",
    moves: "to type half float double bfloat16 cpu cuda xpu ipu mtia to_empty",
    share_memory: "share_memory",
    moves_of_a_model: "_apply",
    compiles: "compile _compiled_call_impl",
    replicas: "_replicate_for_data_parallel",
    pickles: "__setstate__",
    data: "T_destination call_super_init dump_patches _version",
}


@pytest.mark.parametrize("check", [*HOLD, requires_grad_of_one_of_several], ids=lambda check: check.__name__)
def test_members_of_modules(check):
    check()


def test_every_member_of_this_torch_is_decided_documented_and_tried():
    documented = set(decided("Members of `nn.Module`"))
    tried = {name for names in HOLD.values() for name in names.split()}
    inherited = set(dir(type("Plain", (), {})))
    assert members_of(nn.Module) - documented == set(), (
        "decide what these do to tables, in docs/pytorch-verbs.md and here"
    )
    assert documented - set(dir(nn.Module)) <= OF_SOME_TORCHES, "this torch has no such members"
    assert tried == documented, inherited & tried


def test_what_is_said_to_raise_has_a_check_that_raises():
    raising = {name for name, verdict in decided("Members of `nn.Module`").items() if verdict == "raises"}
    kinds = (backward_hooks, moves, share_memory, replicas, pickles)
    assert raising == {name for check in kinds for name in HOLD[check].split()}
