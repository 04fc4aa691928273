"""Each member of torch's Optimizer on sparse and joined ones; what they do is tested beside this file, by theme.

The members are torch's own list, so one that a new torch brings fails here until it is decided, in docs/pytorch-verbs.md and
below.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam, SparseOptimizer, join
from recis_core.optim.joint import JointOptimizer
from tests.hygiene.verbs_table import decided, members_of

OF_SOME_TORCHES = {"_cuda_graph_capture_health_check", "_accelerator_graph_capture_health_check"}

# Ours, and where their effect is tested; torch's own, which need nothing of ours, by `as_torch` below.
OURS = {
    "step": "test_groups.py", "zero_grad": "test_optimizers.py", "add_param_group": "test_groups.py",
    "state_dict": "test_states.py", "load_state_dict": "test_states.py", "__getstate__": "test_groups.py",
    "__setstate__": "test_groups.py",
}  # fmt: skip
HOOKS = {
    "register_state_dict_pre_hook": "test_states.py", "register_state_dict_post_hook": "test_states.py",
    "register_load_state_dict_pre_hook": "test_states.py", "register_load_state_dict_post_hook": "test_states.py",
    "register_step_pre_hook": "test_groups.py", "register_step_post_hook": "test_groups.py",
}  # fmt: skip
TORCHS = {
    "profile_hook_step", "_patch_step_function", "_optimizer_step_code", "__init__", "__repr__",
    "_group_tensors_by_device_and_dtype", "_process_value_according_to_param_policy", "OptimizerPreHook",
    "OptimizerPostHook", *OF_SOME_TORCHES,
}  # fmt: skip


def optimizers():
    engine = EmbeddingEngine({"a": EmbeddingOption(2, backend="torch")})
    sparse = SparseAdam(engine.sparse_parameters())
    return engine, sparse, join(torch.optim.Adam([nn.Parameter(torch.ones(1))]), sparse)


def test_every_member_of_this_torch_is_decided_documented_and_tried():
    documented = set(decided("Members of `Optimizer`, on sparse and joined ones"))
    assert members_of(torch.optim.Optimizer) - documented == set(), (
        "decide what these do, in docs/pytorch-verbs.md and here"
    )
    assert documented - set(dir(torch.optim.Optimizer)) <= OF_SOME_TORCHES
    assert documented == set(OURS) | set(HOOKS) | TORCHS


def test_what_is_said_to_be_tried_is_named_there():
    here = Path(__file__).parent
    for name, file in {**OURS, **HOOKS}.items():
        if not name.startswith("__"):
            assert f"{name}(" in (here / file).read_text(), (name, file)


def test_what_is_not_torchs_own_is_ours():
    """A member that torch has in Python must be overridden, or be one that works on groups and hooks alone."""
    for kind in (SparseOptimizer, JointOptimizer):
        same = {n for n in dir(torch.optim.Optimizer) if getattr(kind, n, None) is getattr(torch.optim.Optimizer, n)}
        assert not same & (set(OURS) - {"__getstate__", "__setstate__"})


def test_torchs_own_members_run():
    _, *both = optimizers()
    for optimizer in both:
        optimizer._optimizer_step_code()
        optimizer._patch_step_function()
        assert optimizer.step.hooked
        assert type(optimizer).__name__ in repr(optimizer)
        assert all(hasattr(optimizer, name) for name in dir(optimizer) if "amp_scaling" not in name)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_discards_whatever_it_sets(set_to_none):
    engine, sparse, joined = optimizers()
    for optimizer in (sparse, joined):
        engine({"a": torch.tensor([1])})["a"].sum().backward()
        before = engine.table("a").embeddings().clone()
        optimizer.zero_grad(set_to_none=set_to_none)
        optimizer.step()
        assert torch.equal(before, engine.table("a").embeddings())
