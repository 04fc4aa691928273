"""The tables that one optimizer steps: by name, their storages, and t of each."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recis_core.backends import SlotSpec
from recis_core.backends.errors import RecisError
from recis_core.nn.hash_table import HashTable
from recis_core.table.table import Table


class OptimizedTables:
    """t: applied steps by table name."""

    def __init__(self) -> None:
        self.by_name: dict[str, HashTable] = {}
        self.t: dict[str, int] = {}
        self._storages: dict[Table, None] = {}
        self._complete = False  # True once a check found that storages hold no other tables

    def take(self, optimizer: object, tables: Mapping[str, HashTable], slots_of: Callable[[int], Any]) -> None:
        """Attach the optimizer to all tables or to none. slots_of: SlotSpecs by dim."""
        twice = set(tables) & set(self.by_name)
        if twice:
            raise ValueError(f"tables {sorted(twice)} are in this optimizer already.")
        _attach(optimizer, {table.physical: slots_of(table.dim) for table in tables.values()})
        self.by_name.update(tables)
        self._storages.update({table.physical: None for table in tables.values()})
        self._complete = False
        self.t.update({name: table.physical.applied[table.ordinal] for name, table in tables.items()})

    def storages(self, names: Sequence[str] | None = None) -> list[Table]:
        """The storages of these tables, or of all; each once."""
        if names is None:
            return list(self._storages)
        return list(dict.fromkeys(self.by_name[name].physical for name in names))

    def next_t(self, storage: Table) -> tuple[int, ...]:
        """t of each logical table of a storage after the next step; a frozen table keeps its t."""
        return tuple([self.t[name] + self.by_name[name].requires_grad for name in storage.names])

    def require_complete(self) -> None:
        """Raises RecisError if a storage holds a table that is not in the optimizer."""
        if self._complete:
            return
        for storage in self._storages:
            missing = set(storage.names) - set(self.by_name)
            if missing:
                raise RecisError(
                    f"tables {sorted(missing)} share one storage with {sorted(set(storage.names) - missing)} but are in no "
                    "group of this optimizer; their gradients would be lost. Add them with add_params."
                )
        self._complete = True


def _attach(optimizer: object, slots: Mapping[Table, tuple[SlotSpec, ...]]) -> None:
    if any(storage.optimizer not in (None, optimizer) for storage in slots):
        gc.collect()  # an unused optimizer may be alive in a reference cycle
    left = {name for storage, specs in slots.items() for name in storage.require_free(optimizer, specs)}
    if left:
        warnings.warn(
            f"{type(optimizer).__name__} starts anew on tables that an optimizer of another kind has trained; that one's "
            f"slots, {', '.join(sorted(left))}, stay in memory and in saved states. To be rid of them, load the rows "
            "into a second engine: engine.load_state_dict({k: v for k, v in state.items() if '.slot.' not in k}).",
            stacklevel=7,
        )
    for storage, specs in slots.items():
        storage.attach(optimizer, specs)


def tables_in(params: Any) -> dict[str, HashTable] | None:
    """The tables of a group's "params", {name: table}, one table or several; None for dense parameters."""
    if isinstance(params, HashTable):
        params = [params]
    if isinstance(params, Mapping):
        return dict(params)
    if isinstance(params, list | tuple) and params and all(isinstance(p, HashTable) for p in params):
        return {table.name: table for table in params}
    return None


def check_tables(param_dict: Mapping[str, HashTable]) -> None:
    """Raises TypeError or ValueError unless param_dict is {name: HashTable} and not empty."""
    if not isinstance(param_dict, Mapping) or not all(isinstance(t, HashTable) for t in param_dict.values()):
        raise TypeError(
            "a sparse optimizer takes {table name: HashTable}, from engine.sparse_parameters() or "
            f"filter_out_sparse_param(model); got {type(param_dict).__name__}."
        )
    if not param_dict:
        raise ValueError("a sparse optimizer needs at least one table; the dict is empty.")
