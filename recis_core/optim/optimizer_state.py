"""Checks an optimizer's state before it is loaded, so that a state of another kind changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from recis_core.optim.hyperparameters import NUMBERS, check_numbers

if TYPE_CHECKING:
    from recis_core.optim.sparse_optimizer import SparseOptimizer

SPARSE = ("t", "grad_accum_steps", "param_groups")
TELLING = ("betas", "momentum", "lr_decay", "alpha", "rho", "lambd", "etas", "history_size")  # of dense kinds


def check_sparse(optimizer: SparseOptimizer, state: Any) -> list[dict[str, Any]]:
    """The state's groups, by torch's names.

    Raises:
      ValueError: the state is of another kind of optimizer or of other tables, or holds an invalid number.
    """
    kind = type(optimizer).__name__
    if not isinstance(state, Mapping) or set(SPARSE) - set(state):
        raise ValueError(f"a state of {kind} holds {', '.join(SPARSE)}; got {_keys(state)}: another optimizer's.")
    mine = [group["tables"] for group in optimizer.param_groups]
    theirs = [list(group["tables"]) for group in state["param_groups"]]
    if mine != theirs:
        raise ValueError(f"the state's groups hold tables {theirs}; this optimizer's hold {mine}.")
    groups = [_by_torch_names(group) for group in state["param_groups"]]
    for group in groups:
        _check_kind(optimizer, group)
        check_numbers({n: group[n] for n in NUMBERS if n in group}, f" of tables {list(group['tables'])} in the state")
    if set(state["t"]) != {name for names in mine for name in names}:
        raise ValueError(f"the state's t must be of tables {mine}; got {sorted(state['t'])}.")
    return groups


def _check_kind(optimizer: SparseOptimizer, group: Mapping[str, Any]) -> None:
    foreign = (set(NUMBERS) & set(group)) - set(optimizer.defaults)
    kind = group.get("kind", optimizer.rule_kind)
    if foreign or kind != optimizer.rule_kind:
        other = f"{kind!r}" if kind != optimizer.rule_kind else f"one with {', '.join(sorted(foreign))}"
        raise ValueError(
            f"the state is of another kind of optimizer, {other}; this is {type(optimizer).__name__}, "
            f"{optimizer.rule_kind!r}. Load the tables' rows alone, and let this optimizer start anew."
        )


def _by_torch_names(group: Mapping[str, Any]) -> dict[str, Any]:
    """The group with `betas`, as a tuple; older states have beta1 and beta2, or a list."""
    named = dict(group)
    if "beta1" in named and "beta2" in named:
        named["betas"] = named.pop("beta1"), named.pop("beta2")
    if "betas" in named:
        named["betas"] = tuple(named["betas"])
    return named


def check_joint(state: Any) -> None:
    """Raises ValueError unless the state has a dense and a sparse part."""
    if not isinstance(state, Mapping) or {"dense", "sparse"} - set(state):
        raise ValueError(f"a joined optimizer's state holds dense, sparse; got {_keys(state)}.")


def check_dense(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Raises ValueError if the state is of another kind or size; torch would load it, or half of it."""
    kind = type(optimizer).__name__
    if not isinstance(state, Mapping) or {"state", "param_groups"} - set(state):
        raise ValueError(f"the dense part is no state of {kind}: it must hold state, param_groups; got {_keys(state)}.")
    mine, theirs = ([len(g["params"]) for g in groups] for groups in (optimizer.param_groups, state["param_groups"]))
    if mine != theirs:
        raise ValueError(f"the dense part's groups hold {theirs} parameters; this {kind}'s hold {mine}.")
    wanted = {name for name in TELLING if name in optimizer.defaults}
    # A scheduler that cycles "momentum" may have put it into any group.
    others = {name for name in TELLING if name not in optimizer.defaults and name != "momentum"}
    for group in state["param_groups"]:
        if wanted - set(group) or others & set(group):
            held = ", ".join(sorted(set(group) - {"params"}))
            raise ValueError(f"the dense part is of another kind than {kind}: its groups hold {held}.")


def after_hooks(hooks: Mapping[int, Any], optimizer: torch.optim.Optimizer, state: Any) -> Any:
    """The state after torch's state_dict hooks; each may change it or return another one."""
    for hook in hooks.values():
        replaced = hook(optimizer, state)
        state = state if replaced is None else replaced
    return state


def _keys(state: Any) -> str:
    return ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
