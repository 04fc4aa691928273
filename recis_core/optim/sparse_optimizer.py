"""The base of sparse optimizers: groups of tables, steps per table, and the step itself.

Sizes: T logical tables of a physical one, K numbers of a rule.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from torch.distributed.algorithms.join import Joinable, JoinHook

from recis_core.backends import SlotSpec, UpdateRule
from recis_core.backends.errors import NonFiniteGradient, RecisError
from recis_core.backends.step_numbers import check_line
from recis_core.channel.channel import Channel
from recis_core.nn.hash_table import HashTable
from recis_core.nn.joining import StepShadow, channel_of, names_here
from recis_core.nn.outside_graphs import outside_graphs
from recis_core.optim.gradient_handle import GradientHandle
from recis_core.optim.hyperparameters import check_numbers, plainly_fine, refuse_torch_only
from recis_core.optim.optimized_tables import OptimizedTables, check_tables, tables_in
from recis_core.optim.optimizer_state import after_hooks, check_sparse
from recis_core.optim.table_group import TableGroup, plain
from recis_core.optim.table_step import TableStep, outcome_of
from recis_core.plain_torch import in_plain_torch, with_gradients, without_gradients
from recis_core.table.table import Table
from recis_core.uninterrupted import as_one

Group = dict[str, Any]
Lines = dict[tuple[int, int], tuple[float, ...]]  # numbers by group and t


class SparseOptimizer(torch.optim.Optimizer, Joinable):
    """Base of sparse optimizers. Only rows that got a gradient change; t counts applied steps per table.

    `loss.backward()` stores gradients, `step()` applies and drops them, `zero_grad()` drops them unapplied. Gradients of
    several backwards add up; `set_grad_accum_steps(n)` divides their sum by n. Torch's LR schedulers set
    `param_groups[i]["lr"]`. Other verbs of torch's optimizers: docs/pytorch-verbs.md.

    A table belongs to one optimizer until that is deleted. If the next optimizer has the same slots, it continues with
    the table's slots and t.

    Args:
      param_dict: {table name: HashTable}, from engine.sparse_parameters() or filter_out_sparse_param(model).
      torch_only: arguments that only torch's optimizer of that name has; they must be off (False, None or 0).

    Raises:
      TypeError: param_dict is no such dict. ValueError: param_dict is empty, or a number is out of range.
      RecisError: a table belongs to another optimizer.
    """

    rule_kind: str
    torch_only: ClassVar[Mapping[str, Any]] = {
        "maximize": False, "foreach": None, "capturable": False, "differentiable": False, "fused": None,
    }  # fmt: skip

    def __init__(self, param_dict: Mapping[str, HashTable], defaults: dict[str, Any], **torch_only: Any) -> None:
        self._grad_accum_steps, self._step_outside_graphs = 1, outside_graphs(SparseOptimizer._step)
        self._tables = OptimizedTables()
        self._stepped: set[Table] = set()  # by the step under way, or by one that failed later
        self.ends_with_dense = False  # whether the step under way is a joined optimizer's
        refuse_torch_only(type(self).__name__, torch_only, self.torch_only)
        check_numbers(defaults)
        torch._C._log_api_usage_once("recis_core.optim")
        self.defaults, self._number_names = {**defaults, **self.torch_only}, tuple(defaults)
        torch.optim.Optimizer.__init__(self, [self._group(param_dict, {})], self.defaults)
        Joinable.__init__(self)

    def slot_specs(self, dim: int) -> tuple[SlotSpec, ...]:
        """The slots of a table of that dim, in the rule's order."""
        raise RecisError(f"{type(self).__name__} must say its slots.")

    def numbers(self, group: Group, t: int) -> tuple[float, ...]:
        """The rule's numbers at applied step t >= 1, in Python floats; see backends.spec.RULES."""
        raise RecisError(f"{type(self).__name__} must give its numbers.")

    def add_params(self, param_dict: Mapping[str, HashTable], **numbers: Any) -> None:
        """Add tables as a new group; `numbers` (lr=…) override the defaults."""
        numbers = self._by_torch_names(numbers)
        unknown = set(numbers) - set(self.defaults)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no {sorted(unknown)}; it has {sorted(self.defaults)}.")
        refuse_torch_only(type(self).__name__, self._torch_only_of(numbers), self.torch_only)
        check_numbers(self._numbers_of({**self.defaults, **numbers}))
        self.add_param_group(self._group(param_dict, numbers))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's, for tables: {"params": {table name: HashTable}, "lr": …}; see add_params.

        Raises:
          RecisError: the group holds dense parameters.
        """
        if isinstance(param_group, TableGroup):
            super().add_param_group(param_group)
            return
        if not isinstance(param_group, Mapping):
            raise TypeError(f"a group must be a dict; got {type(param_group).__name__}.")
        numbers = dict(param_group)
        tables = tables_in(numbers.pop("params", None))
        if tables is None:
            raise RecisError(
                f"{type(self).__name__} takes tables: add_param_group({{'params': {{name: table}}, 'lr': …}}). Dense "
                "parameters go to the dense optimizer, or to the joined one, which passes each group to its side."
            )
        self.add_params(tables, **numbers)

    def _by_torch_names(self, numbers: dict[str, Any]) -> dict[str, Any]:
        """beta1 or beta2 as betas; a missing one gets the default."""
        if "betas" not in self.defaults or not {"beta1", "beta2"} & set(numbers):
            return numbers
        one, two = numbers.pop("betas", self.defaults["betas"])
        return {**numbers, "betas": (numbers.pop("beta1", one), numbers.pop("beta2", two))}

    def _numbers_of(self, group: Mapping[str, Any]) -> dict[str, Any]:
        return {name: group[name] for name in self._number_names}

    def _torch_only_of(self, group: Mapping[str, Any]) -> dict[str, Any]:
        return {name: group[name] for name in self.torch_only if name in group}

    @in_plain_torch
    def _group(self, param_dict: Mapping[str, HashTable], numbers: dict[str, Any]) -> TableGroup:
        check_tables(param_dict)
        device = next(iter(param_dict.values())).physical.device
        names = list(param_dict)
        self._tables.take(self, param_dict, self.slot_specs)
        handle = GradientHandle(*_weakly(self, names), device)
        return TableGroup({"params": [handle], "tables": names, **numbers})

    def set_grad_accum_steps(self, n: int) -> None:
        """Divide the summed gradient by n at each step."""
        if n < 1:
            raise ValueError(f"grad_accum_steps must be at least 1; got {n}.")
        self._grad_accum_steps = n

    def _physical(self, names: list[str] | None = None) -> list[Table]:
        return self._tables.storages(names)

    @in_plain_torch
    @as_one
    def _sync(self, names: list[str]) -> tuple[bool, bool]:
        flags = [table.flags() for table in self._physical(names)]
        return any(has for has, _ in flags), all(finite for _, finite in flags)

    @in_plain_torch
    @as_one
    def _norm(self, names: list[str]) -> float:
        """2-norm of a group's synced gradient, unscaled. A storage shared by several groups counts in the first."""
        first = {t: group["tables"] for group in reversed(self.param_groups) for t in self._physical(group["tables"])}
        mine = [table for table, group in first.items() if group == names]
        return math.sqrt(sum(t.measure("clip").sum_of_squares * (t.scale / self._grad_accum_steps) ** 2 for t in mine))

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """For torch's Join([engine, optimizer]); see recis_core.nn.joining."""
        return StepShadow(self)

    @property
    def join_device(self) -> torch.device:
        return self._channel().device

    @property
    def join_process_group(self) -> Any:
        return self._channel().parent

    def __dir__(self) -> list[str]:
        return names_here(super().__dir__(), self._physical()[0].exchange)

    def _channel(self) -> Channel:
        return channel_of(self._physical()[0].exchange)

    def require_no_overlap(self) -> None:
        """Raises RecisError if gradients are sent during backward, when they are still scaled."""
        if any(t.exchange is not None and t.exchange.overlap for t in self._physical()):
            raise RecisError(
                "overlap=True sends gradients in backward, before a GradScaler can unscale or skip them. "
                "Use one of the two."
            )

    def watch_dense(self, finite: Callable[[], bool]) -> None:
        """Let exchanges check the dense gradients: if those of any rank are not finite, no rank steps."""
        for table in self._physical():
            if table.exchange is not None:
                table.exchange.dense_finite = finite

    @in_plain_torch
    @as_one
    def squared_norm(self) -> float:
        """Σ of squares of the synced gradients, after accumulation, unscaling and clipping."""
        return sum(
            table.measure("clip").sum_of_squares * self._factor(table) * self._factor(table)
            for table in self._physical()
        )

    def handles(self) -> list[GradientHandle]:
        """The GradientHandles, one for each group."""
        return [group["params"][0] for group in self.param_groups]

    def _factor(self, physical: Table) -> float:
        return self.unscaling(physical) / self._grad_accum_steps * physical.scale

    def unscaling(self, physical: Table) -> float:
        """The factor that scalers, clippers or users gave the table's gradient.

        Raises:
          RecisError: groups of its logical tables were scaled by different factors.
        """
        factors = {g["params"][0].factor() for g in self.param_groups if set(g["tables"]) & set(physical.names)}
        if max(factors) - min(factors) > 1e-12 * max(factors):
            raise RecisError(
                f"tables {', '.join(physical.names)} share one storage, but their groups' gradients were scaled by "
                f"{sorted(factors)}. Scale all groups alike, or give the tables options that differ."
            )
        return max(factors)

    def _sync_gradients(self, storages: list[Table]) -> list[Table]:
        """Combine each table's gradients at the owners of the rows; returns the tables with a gradient."""
        busy = [storage for storage in storages if storage.has_gradient]
        talking = {storage.exchange for storage in busy}
        for exchange in dict.fromkeys(storage.exchange for storage in storages):
            if exchange is not None and exchange not in talking:
                exchange.agree_to_step()  # no gradient makes ranks meet here, and all must make this step
        for storage in busy:
            storage.sync()
        return busy

    def _require_finite(self, busy: list[Table]) -> None:
        """Raises NonFiniteGradient if a synced gradient or its factor is NaN or inf."""
        for storage in busy:
            if not (storage.measure().finite and math.isfinite(self._factor(storage))):
                raise NonFiniteGradient(
                    f"the gradient of table(s) {', '.join(storage.names)} holds NaN or inf; no row was changed. "
                    "Call zero_grad() to go on without it; with loss scaling, use optim.join(dense, sparse), "
                    "which lets the GradScaler skip such steps."
                )

    @without_gradients
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Apply and drop pending gradients of every table; t also counts steps without a gradient.

        Raises:
          NonFiniteGradient: nothing was changed.
          MemoryError and others: some tables may have been stepped; the error's note names them. The next step() steps the
            others, and tables that have a new gradient; zero_grad() drops the rest of this step.
        """
        loss = None if closure is None else with_gradients(closure)()
        self._step_outside_graphs(self)
        return loss

    def require_numbers(self) -> None:
        """Raises ValueError or TypeError if a group's lr or other number has become invalid."""
        for group in self.param_groups:
            if plainly_fine(group, self._number_names, self.torch_only):
                continue
            where = f" of tables {group['tables']}"
            check_numbers(self._numbers_of(group), where)
            refuse_torch_only(type(self).__name__ + where, self._torch_only_of(group), self.torch_only)
            for t in {self._tables.t[name] for name in group["tables"]}:
                check_line(self.rule_kind, self.numbers(group, t + 1), where)

    def house_momentum(self) -> None:
        """Add a momentum slot if a group has momentum since the last step."""

    @in_plain_torch
    @as_one
    def _step(self) -> None:
        self._tables.require_complete()
        self.require_numbers()
        storages = self._physical()
        self._require_finite(self._sync_gradients(storages))
        self.house_momentum()
        self._update(self._planned_steps(storages))
        if not self.ends_with_dense:
            self.ends()

    def _planned_steps(self, storages: list[Table]) -> list[TableStep]:
        """Steps of the tables that this step has not stepped yet, with all numbers; changes no row."""
        group_of = {name: group for group in self.param_groups for name in group["tables"]}
        lines: Lines = {}
        waiting = [storage for storage in storages if storage not in self._stepped or storage.has_gradient]
        return [self._step_of(storage, group_of, lines) for storage in waiting]

    def _update(self, steps: list[TableStep]) -> None:
        try:
            for step in steps:
                step.apply()
        except BaseException as error:
            error.add_note(outcome_of(steps))
            raise
        finally:
            self._after(steps)

    def _after(self, steps: list[TableStep]) -> None:
        """Record which steps are done, so that a repeated step() skips them."""
        for step in steps:
            if step.done:
                self._tables.t.update(step.t_of_tables())
                self._stepped.add(step.storage)

    def _line(self, group: Group, t: int, lines: Lines) -> tuple[float, ...]:
        """The group's numbers at t, computed once for all its tables at that t."""
        key = id(group), t
        if key not in lines:
            lines[key] = self.numbers(group, max(1, t))
        return lines[key]

    def next_t(self, storage: Table) -> tuple[int, ...]:
        """t of each logical table of a storage after this step."""
        return self._tables.next_t(storage)

    def _step_of(self, storage: Table, group_of: Mapping[str, Group], lines: Lines) -> TableStep:
        t = self.next_t(storage)
        hyper = [self._line(group_of[name], n, lines) for name, n in zip(storage.names, t, strict=True)]
        rule = UpdateRule(self.rule_kind, tuple(slot.name for slot in self.slot_specs(storage.spec.dim)))
        return TableStep(storage, rule, np.array(hyper, np.float64), self._factor(storage), t)

    def ends(self) -> None:
        self._reset_handles()
        self._stepped = set()

    @property
    def waits_for_dense(self) -> bool:
        """Whether all tables were stepped and the dense side was not; the next step is dense only."""
        return self._stepped.issuperset(self._physical())

    @in_plain_torch
    @as_one
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Discard pending gradients."""
        for table in self._physical():
            table.discard()
        self.ends()

    @in_plain_torch
    @as_one
    def drop(self, names: list[str]) -> None:
        """Discard pending gradients of these tables, and of those that share their storage."""
        for table in self._physical(names):
            table.discard()
        self.drop_factors()

    def drop_factors(self) -> None:
        """Reset the factors of groups whose tables have no gradient."""
        for group in self.param_groups:
            if not any(table.has_gradient for table in self._physical(group["tables"])):
                group["params"][0].forget_factor()

    def _reset_handles(self) -> None:
        for handle in self.handles():
            handle.forget_factor()

    def state_dict(self) -> dict[str, Any]:
        """Groups' numbers and t of each table; slots are in the tables' state."""
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        groups = [plain(group, ("params", *self.torch_only)) | {"kind": self.rule_kind} for group in self.param_groups]
        state = {"t": dict(self._tables.t), "grad_accum_steps": self._grad_accum_steps, "param_groups": groups}
        return after_hooks(self._optimizer_state_dict_post_hooks, self, state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load groups' numbers and t.

        Raises:
          ValueError: the state is of another kind of optimizer, or its groups hold other tables. Nothing is changed.
        """
        self.take_state(*self.read_state(state_dict))

    def read_state(self, state_dict: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """(the state after torch's hooks, its groups), checked; changes nothing."""
        state = dict(state_dict) if isinstance(state_dict, Mapping) else state_dict
        state = after_hooks(self._optimizer_load_state_dict_pre_hooks, self, state)
        return state, check_sparse(self, state)

    def take_state(self, state: dict[str, Any], groups: list[dict[str, Any]]) -> None:
        for group, saved in zip(self.param_groups, groups, strict=True):
            group.update({k: v for k, v in saved.items() if k not in ("tables", "kind", *self.torch_only)})
        self._tables.t = {name: int(state["t"][name]) for name in self._tables.t}
        self._grad_accum_steps = int(state["grad_accum_steps"])
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise RecisError(
            f"{type(self).__name__} cannot be copied or pickled: its state is in its tables. Make a second one over the "
            "tables of a second engine, and load this one's state_dict()."
        )

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self.__deepcopy__(None)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        # GradScaler.step reads this first. Without dense gradients to check, the scaler would step dense and sparse
        # apart.
        raise RecisError(
            f"{type(self).__name__} cannot be stepped by a GradScaler alone: the scaler decides per optimizer. "
            "Hand it recis_core.optim.join(dense_optimizer, sparse_optimizer)."
        )


def _weakly(
    optimizer: SparseOptimizer, names: list[str]
) -> tuple[Callable[[], tuple[bool, bool]], Callable[[], float], Callable[[], None]]:
    """A handle's sync, norm and drop; they hold the optimizer weakly."""
    alive = weakref.ref(optimizer)

    def sync() -> tuple[bool, bool]:
        return (False, True) if (found := alive()) is None else found._sync(names)

    def norm() -> float:
        return 0.0 if (found := alive()) is None else found._norm(names)

    def drop() -> None:
        if (found := alive()) is not None:
            found.drop(names)

    return sync, norm, drop
