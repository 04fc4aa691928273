"""What all sparse optimizers share: groups of tables, steps per table, and the step itself.

Sizes: T logical tables of a physical one, K numbers of a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.distributed.algorithms.join import Joinable, JoinHook

from backends import SlotSpec, UpdateRule
from backends.errors import NonFiniteGradient, RecisError
from recis_core.exchange.joining import StepShadow, world_of
from recis_core.nn.hash_table import HashTable
from recis_core.optim.gradient_handle import GradientHandle
from recis_core.table.physical import PhysicalTable
from recis_core.uninterrupted import as_one

Group = dict[str, Any]


class SparseOptimizer(torch.optim.Optimizer, Joinable):
    """Base of sparse optimizers. Only rows that got a gradient change; t counts applied steps per table.

    `loss.backward()` stores gradients, `step()` applies and consumes them, `zero_grad()` discards
    them. Gradients of several backwards add up; `set_grad_accum_steps(n)` divides their sum by n.
    `param_groups[i]["lr"]` drives torch's LR schedulers.

    Args:
      param_dict: {table name: HashTable}, from engine.sparse_parameters() or filter_out_sparse_param(model).

    Raises:
      TypeError: param_dict is not such a dict. ValueError: it is empty, or a number is out of range.
      RecisError: a table belongs to another optimizer.
    """

    rule_kind: str

    def __init__(self, param_dict: Mapping[str, HashTable], defaults: dict[str, float]) -> None:
        self._grad_accum_steps = 1
        self._t: dict[str, int] = {}
        self._tables: dict[str, HashTable] = {}
        self._check_numbers(defaults)
        torch._C._log_api_usage_once("recis_core.optim")
        self.defaults = defaults
        torch.optim.Optimizer.__init__(self, [self._group(param_dict, {})], defaults)
        Joinable.__init__(self)

    def slot_specs(self, dim: int) -> tuple[SlotSpec, ...]:
        """Slots of a table of that dim, in the rule's order."""
        raise RecisError(f"{type(self).__name__} must say its slots.")

    def numbers(self, group: Group, t: int) -> tuple[float, ...]:
        """The rule's numbers at applied step t >= 1, in Python floats; see backends.spec.RULES."""
        raise RecisError(f"{type(self).__name__} must give its numbers.")

    def add_params(self, param_dict: Mapping[str, HashTable], **numbers: float) -> None:
        """Add tables as a group of their own, with numbers of their own where given (lr=…)."""
        unknown = set(numbers) - set(self.defaults)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no {sorted(unknown)}; it has {sorted(self.defaults)}.")
        self._check_numbers({**self.defaults, **numbers})
        self.add_param_group(self._group(param_dict, numbers))

    def _group(self, param_dict: Mapping[str, HashTable], numbers: dict[str, float]) -> Group:
        _check_tables(param_dict)
        twice = set(param_dict) & set(self._tables)
        if twice:
            raise ValueError(f"tables {sorted(twice)} are in this optimizer already.")
        device = next(iter(param_dict.values())).physical.device
        names = list(param_dict)
        for table in param_dict.values():
            table.physical.attach(self, self.slot_specs(table.dim))
        self._tables.update(param_dict)
        self._t.update(dict.fromkeys(names, 0))
        handle = GradientHandle(lambda: self._sync(names), device)
        return {"params": [handle], "tables": names, **numbers}

    def set_grad_accum_steps(self, n: int) -> None:
        """Divide the summed gradient by n at each step."""
        if n < 1:
            raise ValueError(f"grad_accum_steps must be at least 1; got {n}.")
        self._grad_accum_steps = n

    def _physical(self, names: list[str] | None = None) -> list[PhysicalTable]:
        """The storage under these tables, each once."""
        tables = [self._tables[name].physical for name in (self._tables if names is None else names)]
        return list(dict.fromkeys(tables))

    @as_one
    def _sync(self, names: list[str]) -> tuple[bool, bool]:
        flags = [table.flags() for table in self._physical(names)]
        return any(has for has, _ in flags), all(finite for _, finite in flags)

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """For torch's Join([engine, optimizer]), see exchange.joining: a step for each of the others'."""
        return StepShadow(self)

    @property
    def join_device(self) -> torch.device:
        return self._world().device

    @property
    def join_process_group(self) -> Any:
        return self._world().parent

    def _world(self) -> Any:
        return world_of(self._physical()[0].exchange)

    def require_no_overlap(self) -> None:
        """Raises RecisError where gradients leave in backward, scaled as they are then."""
        if any(t.exchange is not None and t.exchange.overlap for t in self._physical()):
            raise RecisError(
                "overlap=True sends gradients in backward, before a GradScaler can unscale or skip them. "
                "Use one of the two."
            )

    def watch_dense(self, finite: Callable[[], bool]) -> None:
        """Where ranks share tables, what any of them sees in its dense gradients decides for all."""
        for table in self._physical():
            if table.exchange is not None:
                table.exchange.dense_finite = finite

    @as_one
    def squared_norm(self) -> float:
        """Σ of the synced gradients' squares, with accumulation, unscaling and clipping so far applied."""
        return sum(table.measure().sum_of_squares * self._factor(table) ** 2 for table in self._physical())

    def handles(self) -> list[GradientHandle]:
        """The scalars that stand for this optimizer's gradients, one a group."""
        return [group["params"][0] for group in self.param_groups]

    def _factor(self, physical: PhysicalTable) -> float:
        return self.unscaling(physical) / self._grad_accum_steps * physical.scale

    def unscaling(self, physical: PhysicalTable) -> float:
        """What a scaler, a clipper or a user has multiplied the table's gradient by.

        Raises:
          RecisError: its logical tables' groups were scaled apart.
        """
        factors = {g["params"][0].factor() for g in self.param_groups if set(g["tables"]) & set(physical.names)}
        if len(factors) != 1:
            raise RecisError(
                f"tables {', '.join(physical.names)} share one storage, but their groups' gradients were scaled by "
                f"{sorted(factors)}. Scale all groups alike, or give the tables options that differ."
            )
        return factors.pop()

    def require_finite(self) -> None:
        """Raises NonFiniteGradient if a pending gradient, or what scales it, is NaN or inf."""
        for table in self._physical():
            if not table.has_gradient:
                continue
            if not (table.measure().finite and np.isfinite(self._factor(table))):
                raise NonFiniteGradient(
                    f"the gradient of table(s) {', '.join(table.names)} holds NaN or inf; no row was changed. "
                    "Call zero_grad() to go on without it; with loss scaling, use optim.join(dense, sparse), "
                    "which lets the GradScaler skip such steps."
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Apply and consume pending gradients, on every table; t counts also where there are none.

        Raises:
          NonFiniteGradient: nothing was changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step()
        return loss

    @as_one
    def _step(self) -> None:
        self._require_all_attached()
        self.require_finite()
        for name in self._t:
            self._t[name] += 1
        for table in self._physical():
            self._update(table)
        self._reset_handles()

    def _update(self, table: PhysicalTable) -> None:
        group_of = {name: group for group in self.param_groups for name in group["tables"]}
        t = tuple(self._t[name] for name in table.names)
        hyper = [self.numbers(group_of[name], self._t[name]) for name in table.names]
        rule = UpdateRule(self.rule_kind, tuple(slot.name for slot in self.slot_specs(table.spec.dim)))
        table.update(rule, np.array(hyper, np.float64).astype(np.float32), self._factor(table), t)

    def _require_all_attached(self) -> None:
        for table in self._physical():
            missing = set(table.names) - set(self._tables)
            if missing:
                raise RecisError(
                    f"tables {sorted(missing)} share one storage with {sorted(set(table.names) - missing)} but are in no "
                    "group of this optimizer; their gradients would be lost. Add them with add_params."
                )

    @as_one
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Discard pending gradients."""
        for table in self._physical():
            table.discard()
        self._reset_handles()

    def _reset_handles(self) -> None:
        for handle in self.handles():
            handle.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Groups' numbers and t of each table; the slots are in the tables' own state."""
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.param_groups]
        return {"t": dict(self._t), "grad_accum_steps": self._grad_accum_steps, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ValueError unless the tables, group by group, are this optimizer's."""
        mine = [group["tables"] for group in self.param_groups]
        theirs = [list(group["tables"]) for group in state_dict["param_groups"]]
        if mine != theirs:
            raise ValueError(f"the state's groups hold tables {theirs}; this optimizer's hold {mine}.")
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group.update({k: v for k, v in saved.items() if k != "tables"})
        self._t = {name: int(t) for name, t in state_dict["t"].items()}
        self._grad_accum_steps = int(state_dict["grad_accum_steps"])

    @property
    def _step_supports_amp_scaling(self) -> bool:
        # GradScaler.step asks for this first. It would find no dense gradient to check, and step
        # dense and sparse apart.
        raise RecisError(
            f"{type(self).__name__} cannot be stepped by a GradScaler alone: the scaler decides per optimizer. "
            "Hand it recis_core.optim.join(dense_optimizer, sparse_optimizer)."
        )

    @staticmethod
    def _check_numbers(numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number >= 0; got {value}.")
            if name in ("beta1", "beta2") and value >= 1:
                raise ValueError(f"{name} must be below 1; got {value}.")


def _check_tables(param_dict: Mapping[str, HashTable]) -> None:
    if not isinstance(param_dict, Mapping) or not all(isinstance(t, HashTable) for t in param_dict.values()):
        raise TypeError(
            "a sparse optimizer takes {table name: HashTable}, from engine.sparse_parameters() or "
            f"filter_out_sparse_param(model); got {type(param_dict).__name__}."
        )
    if not param_dict:
        raise ValueError("a sparse optimizer needs at least one table; the dict is empty.")
