"""Implementations of hooks by their names, and those that tables have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recis_core.backends.records import Marks
from recis_core.compat.recis.common.singleton import SingletonMeta
from recis_core.compat.recis.nn.hashtable_hook import AdmitHook, BaseHook, FilterHook
from recis_core.compat.recis.nn.modules.step_clock import StepClock
from recis_core.compat.recis.utils.logger import Logger

logger = Logger(__name__)


class HashtableHookFactory(metaclass=SingletonMeta):
    """Registered implementations, and the made ones: {hook's name: {table: implementation}}."""

    def __init__(self) -> None:
        self._known_filters: dict[str, Callable[..., Any]] = {}
        self._known_admits: dict[str, Callable[..., Any]] = {}
        self._filters: dict[str, dict[Any, Any]] = defaultdict(dict)
        self._admits: dict[str, dict[Any, Any]] = defaultdict(dict)

    def get_filters(self) -> dict[str, dict[Any, Any]]:
        return self._filters

    def get_admits(self) -> dict[str, dict[Any, Any]]:
        return self._admits

    def regist_filter(self, name: str, filter_hook_impl: Callable[..., Any]) -> None:
        """Raises ValueError: the name is registered."""
        _register(self._known_filters, name, filter_hook_impl)

    def regist_admit(self, name: str, admit_hook_impl: Callable[..., Any]) -> None:
        """Raises ValueError: the name is registered."""
        _register(self._known_admits, name, admit_hook_impl)

    def create_filter_hook(self, ht: Any, hook: FilterHook) -> Any:
        """Raises ValueError: the hook's name is not registered, or the table has such a filter."""
        make = _known(self._known_filters, hook)
        if ht in self._filters[hook.name]:
            raise ValueError(f"{ht} has a {hook.name!r} hook already.")
        self._filters[hook.name][ht] = make(ht, **hook.params)
        return self._filters[hook.name][ht]

    def create_admit_hook(self, ht: Any, hook: AdmitHook) -> Any:
        """Raises ValueError: the hook's name is not registered."""
        made, make = self._admits[hook.name], _known(self._known_admits, hook)
        if ht not in made:
            made[ht] = make(**hook.params)
        return made[ht]


def _register(known: dict[str, Callable[..., Any]], name: str, made_by: Callable[..., Any]) -> None:
    if name in known:
        raise ValueError(f"a hook {name!r} is registered already.")
    known[name] = made_by


def _known(known: dict[str, Callable[..., Any]], hook: BaseHook) -> Callable[..., Any]:
    if hook.name not in known:
        raise ValueError(f"no hook {hook.name!r} is registered; there are {', '.join(known)}.")
    return known[hook.name]


class BaseAdmitHookImpl:
    """Base of admission's implementations."""

    def __init__(self, **kwargs: Any) -> None:
        pass


class ReadOnlyHookImpl(BaseAdmitHookImpl):
    """No unknown id gets a row."""


class BaseFilterHookImpl(torch.nn.Module):
    """Base of filters. `filter(ids, index)` gives the (ids, index) to delete; `update(index)` hears of training lookups.

    ht: the module HashTable. name: of the filter's slot.
    """

    def __init__(self, ht: Any, name: str | None = None, **kwargs: Any) -> None:
        super().__init__()
        self._ht, self._name = ht._hashtable_impl, name

    def update(self, index: Tensor) -> None:
        """Row numbers that a training forward looked up."""

    def update_step(self, step_size: int = 1) -> None:
        """A step of HashTableFilterHook is over."""

    def filter(self, ids: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} must say which rows go.")

    def do_filter(self) -> None:
        """Delete what `filter` chooses. Collective with several ranks."""
        ids, index = self._ht.ids_map()
        gone, gone_index = self.filter(ids, index)
        self._ht.delete(gone, gone_index, self._name or "")
        self.after_filter(ids, gone)

    def after_filter(self, ids: Tensor, delete_ids: Tensor) -> None:
        """Called with the ids before, and those deleted."""

    def forward(self, index: Tensor) -> None:
        self.update(index)


class GlobalStepFilterHookImpl(BaseFilterHookImpl):
    """Deletes rows last used more than filter_step steps ago.

    Our table stamps rows itself, on every rank; `clock` reads stamps as RecIS's steps. `_global_step` is a buffer int64 [1].

    Raises:
      ValueError: filter_step is below 1.
    """

    def __init__(self, ht: Any, name: str = "step_filter", filter_step: int = 100, **kwargs: Any) -> None:
        super().__init__(ht, name)
        if filter_step < 1:
            raise ValueError(f"filter_step must be at least 1; got {filter_step}.")
        self._filter_step, self.slot_name = filter_step, name
        self._global_step: Tensor
        self.register_buffer("_global_step", torch.zeros(1, dtype=torch.int64, device=ht.device))
        self.clock: StepClock = ht.step_clock
        self._seen = torch.zeros(0, 1, dtype=torch.int64)  # last steps by row number, as far as looked at
        self._ht.step_filter = self

    def update_step(self, step_size: int = 1) -> None:
        for _ in range(step_size):
            self.agree()
            self.clock.next(self._ht.physical)
        self._global_step += step_size

    def agree(self) -> None:
        """Follow a `_global_step` that was set from outside, as by a load."""
        if int(self._global_step) != self.clock.now:
            table = self._ht.physical
            table.step = max(table.step, int(self._global_step))
            self.clock.restart(int(self._global_step), table.step)

    def remember(self, steps: Tensor, numbers: Tensor, rows: int) -> Tensor:
        """Note steps int64 [n] of row numbers, and give [rows, 1] of all."""
        if len(self._seen) < rows:
            more = torch.zeros(rows - len(self._seen), 1, dtype=torch.int64)
            self._seen = torch.cat([self._seen, more])
        self._seen[numbers] = steps[:, None]
        return self._seen.clone()

    def filter(self, ids: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        steps = self._ht.remember()[index.cpu(), 0]
        old = (steps < int(self._global_step) - self._filter_step).to(ids.device)
        return ids[old], index[old]

    def do_filter(self) -> None:
        """Each rank deletes its own old rows; rows with pending gradients, or of a forward still to come back, stay."""
        self.agree()
        if self._ht.watched:
            self._ht.remember()
        before = self._ht.physical.counters().rows
        gone = sum(self._ht.physical.evict().values())
        logger.info(
            "%s of %s at step %d: %d of %d rows deleted, unused for more than %d steps.",
            type(self).__name__, self._ht, int(self._global_step), gone, before, self._filter_step,
        )  # fmt: skip

    def __repr__(self) -> str:
        return (
            f"GlobalStepFilterHookImpl(global_step={int(self._global_step)}, filter_step={self._filter_step}, "
            f"slot_name={self._name!r}, ht={self._ht})"
        )


def old_rows(clock: StepClock, filter_step: int) -> Callable[[Marks, Any], Tensor]:
    """For our FilterHook: which rows were last used more than filter_step of RecIS's steps ago."""

    def choose(marks: Marks, weights: Any) -> Tensor:
        return clock.of(marks.stamps) < clock.now - filter_step

    return choose


HashtableHookFactory().regist_admit("ReadOnly", ReadOnlyHookImpl)
HashtableHookFactory().regist_filter("GlobalStepFilter", GlobalStepFilterHookImpl)
