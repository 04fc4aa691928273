"""Optimizers over dense parameters and tables, by parameter names, as torchrec.optim.keyed has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recis_core.compat.torchrec.modules import table_rows
from recis_core.compat.torchrec.modules.table_parameter import TableParameter
from recis_core.compat.torchrec.optim.rules import sparse_optimizer
from recis_core.optim import JointOptimizer, SparseOptimizer, join
from recis_core.optim.optimizer_state import check_dense, check_joint, check_sparse
from recis_core.plain_torch import with_gradients

Params = Mapping[str, Any]
Whole = Mapping[str, TableParameter]


class KeyedOptimizer(torch.optim.Optimizer):
    """An optimizer that acts through others. Its groups are theirs, so LR schedulers and scalers drive them.

    params: {name: parameter} of all.
    """

    def __init__(self, params: Params, parts: Mapping[str, torch.optim.Optimizer]) -> None:
        self.params, self._parts, self._ready = dict(params), dict(parts), False
        super().__init__([{"params": []}], {})
        self._ready = True

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self._parts.values() for group in part.param_groups]

    @param_groups.setter
    def param_groups(self, groups: object) -> None:
        if self._ready:
            raise AttributeError("groups are those of the optimizers inside; change these in place.")

    @property
    def state(self) -> Any:
        """Dense parameters' state. Tables keep theirs beside their rows."""
        return {key: value for part in self._parts.values() for key, value in part.state.items()}

    @state.setter
    def state(self, state: object) -> None:
        if self._ready:
            raise AttributeError("state is that of the optimizers inside; use load_state_dict().")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if self._ready:
            raise NotImplementedError("a KeyedOptimizer's parameters are named when it is made.")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else with_gradients(closure)()
        for part in self._parts.values():
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self._parts.values():
            part.zero_grad(set_to_none)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        return False  # the scaler decides by the gradients that it has unscaled

    def state_dict(self) -> dict[str, Any]:
        """{"parts": states of the optimizers inside, "slots": {name: slots of a table that states hold as one weight}}."""
        slots = {name: table_rows.slots_of(parameter.table) for name, parameter in self._whole().items()}
        return {"parts": {name: part.state_dict() for name, part in self._parts.items()}, "slots": slots}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take a state of such an optimizer, before or after the model's.

        Raises:
          ValueError: it is of other optimizers or tables; nothing was changed.
        """
        self.check_state(state_dict)
        for name, part in self._parts.items():
            part.load_state_dict(state_dict["parts"][name])
        for name, parameter in self._whole().items():
            table_rows.take_slots(parameter.table, state_dict["slots"][name])

    def check_state(self, state_dict: Mapping[str, Any]) -> None:
        """Raises ValueError if load_state_dict would refuse the state."""
        parts, slots = state_dict.get("parts", {}), state_dict.get("slots", {})
        if set(parts) != set(self._parts) or set(slots) != set(self._whole()):
            raise ValueError(
                f"state must be of optimizers {list(self._parts)} and tables {list(self._whole())}; "
                f"got {list(parts)} and {list(slots)}."
            )
        for name, part in self._parts.items():
            _check(part, parts[name])
        for name, parameter in self._whole().items():
            table_rows.check_slots(parameter.table, slots[name])

    def _whole(self) -> dict[str, TableParameter]:
        """Tables whose rows are one weight in the model's state, without slots: these are the optimizer's."""
        tables = {name: p for name, p in self.params.items() if isinstance(p, TableParameter)}
        return {name: p for name, p in tables.items() if p.has_optimizer and p.is_whole}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(type(part).__name__ for part in self._parts.values())})"


def _check(part: torch.optim.Optimizer, state: Any) -> None:
    """Raises ValueError if the optimizer would refuse the state."""
    if isinstance(part, KeyedOptimizer):
        part.check_state(state)
    elif isinstance(part, JointOptimizer):
        check_joint(state)
        check_dense(part.dense, state["dense"])
        check_sparse(part.sparse, state["sparse"])
    elif isinstance(part, SparseOptimizer):
        check_sparse(part, state)
    else:
        check_dense(part, state)


class KeyedOptimizerWrapper(KeyedOptimizer):
    """One optimizer over the parameters, dense ones and tables: a step over both.

    Args:
      params: {name: parameter}.
      optim_factory: makes a torch optimizer of the list of parameters. Tables get its rule (see
        apply_optimizer_in_backward for which there are) on touched rows, in one step with the dense parameters.
      pass_params_dict: give optim_factory the dict.

    Raises:
      RecisError, ValueError: tables have no such rule, or not with these numbers.

    As torchrec.optim.keyed.KeyedOptimizerWrapper.
    """

    def __init__(
        self, params: Params, optim_factory: Callable[[Any], torch.optim.Optimizer], pass_params_dict: bool = False
    ) -> None:
        made = optim_factory(params if pass_params_dict else list(params.values()))
        super().__init__(params, {"": over_tables(made)})


class CombinedOptimizer(KeyedOptimizer):
    """Several optimizers, stepped one after another; a name may be given to each. As torchrec.optim.keyed.CombinedOptimizer."""

    def __init__(self, optims: Sequence[KeyedOptimizer | tuple[str, KeyedOptimizer]]) -> None:
        self._optims = [each if isinstance(each, tuple) else ("", each) for each in optims]
        params: dict[str, Tensor] = {}
        for prefix, optim in self._optims:
            named = {f"{prefix}.{name}" if prefix else name: p for name, p in optim.params.items()}
            if twice := named.keys() & params.keys():
                raise ValueError(f"parameters {sorted(twice)} are in several optimizers.")
            params.update(named)
        super().__init__(params, {f"{i}{name and '.'}{name}": optim for i, (name, optim) in enumerate(self._optims)})

    @property
    def optimizers(self) -> list[tuple[str, KeyedOptimizer]]:
        return self._optims

    def _whole(self) -> dict[str, TableParameter]:
        return {}  # the parts' own states hold the slots


def over_tables(made: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """A torch optimizer, with its tables handed to a sparse one of the same rule and numbers; itself, where it has none.

    Tables with an optimizer in backward never have a gradient here, and are left out.
    """
    groups = [
        (parameter, group) for group in made.param_groups for parameter in group["params"]
        if isinstance(parameter, TableParameter) and not hasattr(parameter, "_in_backward_optimizers")
    ]  # fmt: skip
    if not groups:
        return made
    sparse = sparse_optimizer(type(made), [(parameter.table, group) for parameter, group in groups])
    for parameter in [p for p in made.state if isinstance(p, TableParameter)]:
        made.state.pop(parameter)
    for group in made.param_groups:
        group["params"] = [p for p in group["params"] if not isinstance(p, TableParameter)]
    made.param_groups[:] = [group for group in made.param_groups if group["params"]]
    return join(made, sparse) if made.param_groups else sparse
