"""A physical table of one rank: its forwards, and gradients from backward to step.

Sizes: N ids, U unique ids, D dim.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import Clock, LookupCall, LookupMode, UpdateRule
from recis_core.table.admission.admitting_storage import FIND, tables_of
from recis_core.table.named_table import NamedTable
from recis_core.table.replacement import Replacement
from recis_core.table.table import Table
from recis_core.table.ticket import Ticket
from recis_core.table.unapplied import Measure, Unapplied
from recis_core.table.unattended import KEPT
from recis_core.uninterrupted import as_one


@final
class PhysicalTable(Table):
    """All rows are on this rank. `unapplied` holds gradients from backward to step."""

    scale = 1.0

    def verbs(self, ordinal: int) -> NamedTable:
        return self.named(ordinal)

    @property
    def clock(self) -> Clock:
        steps = [ticket.step for ticket in self._tickets if ticket.waits]
        if self.unapplied.oldest is not None:
            steps.append(self.unapplied.oldest)
        return Clock(self.step, min(steps, default=self.step))

    def embed(
        self, call: LookupCall, mode: LookupMode, weights_need_grad: tuple[bool, ...]
    ) -> tuple[list[Tensor], object, Ticket]:
        """One forward's outputs, what its backward needs, and the ticket that pins its rows."""
        with self.lock:
            ticket = Ticket(self.step, self.erasures.count)
            outputs, saved, evicted = self.storage.embed(
                call, mode=mode, clock=self.clock, weights_need_grad=weights_need_grad
            )
            if self.observers and mode.insert:
                self._tell(*self._known(call))
                if evicted is not None:
                    self._tell(evicted.ids, evicted.tables)
            self._tickets.add(ticket)
            return outputs, saved, ticket

    def _known(self, call: LookupCall) -> tuple[Tensor, Tensor]:
        """Keys of an inserting call that have a row: all, or those that the gate admitted."""
        keys = call.ids, tables_of(call)
        if self._storage.gate is None:
            return keys
        p = self.storage.partition(*keys)
        rows, _ = self.storage.lookup(p.ids, p.tables, mode=FIND, clock=self.clock)
        return p.ids[rows >= 0], p.tables[rows >= 0]

    def embed_grad(self, saved: Any, grads: list[Tensor | None]) -> tuple[Any, list[Tensor | None]]:
        return self._storage.embed_grad(saved, grads)

    def push(self, gradient: object | None, ticket: Ticket) -> None:
        if gradient is None:
            return
        with self.lock:
            gradient = self._of_living(gradient, ticket)
            waits = self.unapplied.with_gradient(gradient, ticket.step)
            if len(waits.gradients) > KEPT and self.optimizer is None:
                waits = waits._replace(gradients=(self._storage.combine(list(waits.gradients)),))
            self.unapplied = waits

    def _of_living(self, gradient: Any, ticket: Ticket) -> Any:
        if ticket.erasures == self.erasures.count:
            return gradient
        gone = self.erasures.gone(ticket.erasures, *self._storage.read_gradient(gradient)[:2])
        return self._storage.without(gradient, gone) if bool(gone.any()) else gradient

    @property
    def held(self) -> Any:
        return self.unapplied

    @held.setter
    def held(self, held: Any) -> None:
        self.unapplied = held

    @property
    def waiting(self) -> int:
        return len(self.unapplied.gradients)

    @property
    def has_gradient(self) -> bool:
        return bool(self.unapplied.gradients)

    def flags(self) -> tuple[bool, bool]:
        return self.has_gradient, self.measure().finite

    def sync(self) -> None:
        self.combine()

    def measure(self, kind: str = "norm") -> Measure:
        return self.local_measure()

    def update(self, rule: UpdateRule, hyper: np.ndarray, factor: float, t: tuple[int, ...]) -> None:
        with self.lock:
            self.sync()
            self._apply(rule, hyper, factor, t, Unapplied())
            self._stepped()

    @as_one
    def discard(self) -> None:
        with self.lock:
            if self.unapplied.gradients:
                self.unapplied = self.unapplied.none()
                self._stepped()

    def clear(self, ordinals: Iterable[int]) -> None:
        Replacement(self, set(ordinals)).commit()

    def agree_to_load(self, ordinals: Iterable[int], *, refuses: bool) -> list[int]:
        return []

    @as_one
    def accept_gradient(self, ids: Tensor, ordinal: int, rows: Tensor, values: Tensor) -> None:
        with self.lock:
            tables = torch.full((len(ids),), ordinal, dtype=torch.int32, device=ids.device)
            self.push(self.storage.gradient(ids, tables, rows, values), self.ticket())
