"""One storage's part of a saved state: prepared aside, then taken at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from recis_core.backends import Snapshot
from recis_core.exchange.adaptive import Chooser
from recis_core.exchange.keyed_rows import KeyedRows
from recis_core.exchange.sharded_table import ShardedTable
from recis_core.exchange.unsent import summed_by_key
from recis_core.table.eviction.eviction import Eviction
from recis_core.table.replacement import Replacement
from recis_core.table.table import Table
from recis_core.table.unapplied import Carried


class Resumed:
    """The new content of one storage. All checks come before `commit`.

    slots: whether rows keep their optimizers' slots.
    """

    def __init__(self, table: Table, slots: bool = True) -> None:
        self.table, self.step, self.slots = table, table.step, slots
        self._rows = Replacement(table, range(len(table.names)))
        self._carried: Carried | None = None
        self._gate = table.storage.gate
        self._policy = None if self._gate is None else self._gate.new_policy()
        self._eviction = None if table.eviction is None else Eviction(table.eviction.hook, table.eviction.spread)
        self._choosers: dict[str, Chooser] = {}
        self.residual: KeyedRows | None = None

    def add(self, snapshot: Snapshot) -> None:
        self._rows.add(snapshot)

    def carry(self, more: Carried) -> None:
        """Raises ValueError unless these are gradients of this storage's rows."""
        check_carried(more, len(self.table.names), self.table.spec.dim)
        if len(more.ids):
            self._carried = more if self._carried is None else summed_by_key([self._carried, more])

    def take_codecs(self, states: Mapping[str, Any]) -> None:
        """Codecs chosen by measured error keep their measurements; under another precision they start anew."""
        if not isinstance(self.table, ShardedTable) or not states:
            return
        precision = self.table.precision
        for part, direction in (("rows", precision.forward), ("gradients", precision.backward)):
            chooser = Chooser(direction)
            if chooser.state().keys() == states[part].keys():
                chooser.load_state(states[part])
                self._choosers[part] = chooser

    def take_hooks(self, state: Mapping[str, Any]) -> None:
        """Take over the hooks' memory; another hook's memory is dropped."""
        if self._policy is not None and "admission" in state:
            self._policy.load_state(state["admission"])
        if self._eviction is not None and "eviction" in state:
            self._eviction.load_state(state["eviction"])

    def merge_hooks(self, state: Mapping[str, Any], ordinals: dict[int, int]) -> None:
        """Take over the hooks' memory of ids that belong on this rank."""
        if self._policy is not None and "admission" in state:
            self._policy.merge(state["admission"], ordinals, self.table.keeps)
        if self._eviction is not None and "eviction" in state:
            self._eviction.load_state(state["eviction"], moved=True)

    def commit(self) -> None:
        table = self.table
        self._rows.commit()
        table.step, table.carried = self.step, self._carried
        if self._gate is not None and self._policy is not None:
            self._gate.go_on_with(self._policy)
        if table.eviction is not None and self._eviction is not None:
            table.eviction.filter.load_state(self._eviction.filter.state())
        if isinstance(table, ShardedTable):
            table.to_rows = self._choosers.get("rows", table.to_rows)
            table.to_gradients = self._choosers.get("gradients", table.to_gradients)
            if table.residuals is not None and self.residual is not None:
                table.residuals.rows = self.residual


def check_carried(carried: Carried, tables: int, dim: int) -> None:
    n = len(carried.ids)
    wanted = {"ids": (torch.int64, (n,)), "ordinals": (torch.int32, (n,)), "values": (torch.float32, (n, dim))}
    for name, (dtype, shape) in wanted.items():
        found = getattr(carried, name)
        if found.dtype != dtype or found.shape != shape:
            raise ValueError(
                f"{name} of its gradients must be {dtype} {shape}; got {found.dtype} {tuple(found.shape)}."
            )
    if n and not 0 <= int(carried.ordinals.min()) <= int(carried.ordinals.max()) < tables:
        raise ValueError(
            f"ordinals of its gradients must be of {tables} tables; got {carried.ordinals.unique().tolist()[:9]}."
        )
