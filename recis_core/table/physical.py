"""One physical table: a backend's state, the logical tables in it, and gradients waiting for the step.

Sizes: N ids, U unique ids, D dim.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from backends import (
    Backend,
    Clock,
    Counters,
    LookupCall,
    LookupMode,
    SlotSpec,
    Snapshot,
    TableSpec,
    UpdateRule,
    placement,
)
from backends.errors import RecisError
from recis_core.table.admitting_backend import FIND, AdmittingBackend, tables_of
from recis_core.table.tiers.inside import tiered
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.table.eviction import Eviction

SLICES = 1 << placement.SLICE_BITS


class Ticket:
    """A forward whose backward may still come; while it lives and waits, the rows it touched are pinned.

    It is told when its last backward came: a frame that an exception or a compilation left behind may keep it alive.
    """

    def __init__(self, step: int) -> None:
        self.step, self.waits = step, True


@dataclass(frozen=True)
class Carried:
    """Gradients, means over ranks, that a saved state had not applied yet, by unique key. On the CPU."""

    ids: Tensor  # int64 [n]
    ordinals: Tensor  # int32 [n]
    values: Tensor  # float32 [n, D]


@dataclass(frozen=True)
class Measure:
    """Of a synced gradient, before any factor."""

    sum_of_squares: float
    finite: bool


class PhysicalTable:
    """Storage of the logical tables `names`; `names[k]` has uid spec.uids[k].

    A gradient is pushed by backward, combined by `sync`, and consumed by `update` or `discard`.
    """

    exchange: Any = None  # how it speaks to other ranks' shares, if there are any
    own_slots: tuple[SlotSpec, ...] = ()  # slots beside an optimizer's
    replicated = False  # whether other ranks hold the same rows
    eviction: Eviction | None = None  # which rows go when it is told to evict

    def __init__(self, backend: Backend, spec: TableSpec, names: tuple[str, ...], *, reduce_by_id: bool) -> None:
        self.backend, self.spec, self.names = backend, spec, names
        self.reduce_by_id = reduce_by_id
        self.device = torch.device(spec.device)
        self.state = backend.create(spec)
        self._step = 0
        self.optimizer: object | None = None
        self._slots: tuple[SlotSpec, ...] = ()
        self._pending: list[object] = []
        self._combined: object | None = None
        self._measure: Measure | None = None
        self._tickets: weakref.WeakSet[Ticket] = weakref.WeakSet()
        self._oldest_pending: int | None = None
        self._homeless_slots: list[Snapshot] = []
        # Called with (ids, ordinals) of rows that may have come, gone or changed, after they did.
        self.observers: list[Callable[[Tensor, Tensor], None]] = []
        # How often the whole state gave way to another, as by a load: then observers hear of no ids.
        self.replacements = 0
        self.carried: Carried | None = None

    def _tell(self, ids: Tensor, ordinals: Tensor) -> None:
        for observer in self.observers:
            observer(ids, ordinals)

    @property
    def step(self) -> int:
        """Finished optimizer steps. Tiers count them, for a kept disk brings those of its rows."""
        tiers = tiered(self.state)
        return self._step if tiers is None else tiers.finished

    @step.setter
    def step(self, step: int) -> None:
        tiers = tiered(self.state)
        if tiers is None:
            self._step = step
        else:
            tiers.finished = step

    @property
    def scale(self) -> float:
        """Multiplies the synced gradient, besides what the optimizer says."""
        return 1.0

    @property
    def clock(self) -> Clock:
        steps = [ticket.step for ticket in self._tickets if ticket.waits]
        if self._oldest_pending is not None:
            steps.append(self._oldest_pending)
        return Clock(self.step, min(steps, default=self.step))

    def embed(
        self, call: LookupCall, mode: LookupMode, weights_need_grad: tuple[bool, ...]
    ) -> tuple[list[Tensor], object, Ticket]:
        """One forward's outputs, what its backward needs, and the ticket that pins its rows."""
        self.state, outputs, saved, evicted = self.backend.embed(
            self.state, call, mode=mode, clock=self.clock, weights_need_grad=weights_need_grad
        )
        if self.observers and mode.insert:
            self._tell(*self._known(call))
            if evicted is not None:
                self._tell(evicted.ids, evicted.tables)
        ticket = Ticket(self.step)
        self._tickets.add(ticket)
        return outputs, saved, ticket

    def _known(self, call: LookupCall) -> tuple[Tensor, Tensor]:
        """Keys of a call that inserted, without those that were not admitted."""
        keys = call.ids, tables_of(call)
        if not isinstance(self.backend, AdmittingBackend):
            return keys
        p = self.backend.partition(self.state, *keys)
        self.state, rows, _ = self.backend.lookup(self.state, p.ids, p.tables, mode=FIND, clock=self.clock)
        return p.ids[rows >= 0], p.tables[rows >= 0]

    def embed_grad(self, saved: Any, grads: list[Tensor | None]) -> tuple[Any, list[Tensor | None]]:
        """Backward of `embed`: the gradient to push, and one for each request's weights, as asked."""
        return self.backend.embed_grad(saved, grads)

    def push(self, gradient: object | None, ticket: Ticket) -> None:
        """Hold a backward's gradient until the step."""
        if gradient is None:
            return
        self._pending.append(gradient)
        self._combined = self._measure = None
        oldest = self._oldest_pending
        self._oldest_pending = ticket.step if oldest is None else min(oldest, ticket.step)

    def sync(self) -> None:
        """Combine what is pending. Idempotent."""
        if self._pending and self._combined is None:
            self._combined = self.backend.combine(self._pending, mean=self.reduce_by_id)

    def measure(self) -> Measure:
        """Σ values² and finiteness of the synced gradient; zero and finite where there is none."""
        self.sync()
        if self._combined is None:
            return Measure(0.0, True)
        if self._measure is None:
            squares, finite = self.backend.measure(self._combined)
            self._measure = Measure(float(squares), bool(finite))
        return self._measure

    def update(self, rule: UpdateRule, hyper: np.ndarray, factor: float, t: tuple[int, ...]) -> None:
        """Apply the synced gradient, if there is one, and consume it."""
        self.sync()
        self._apply(self._pending, rule, hyper, factor, t)
        self._consumed()

    def _apply(self, parts: list[Any], rule: UpdateRule, hyper: np.ndarray, factor: float, t: tuple[int, ...]) -> None:
        """Update by the synced gradient, combined of `parts`, and by what a loaded state carried."""
        gradient = self._combined if self.carried is None else self._with_carried(parts)
        if gradient is not None:
            self.state = self.backend.update(self.state, gradient, rule, hyper=hyper, factor=factor, t=t)
            if self.observers:
                self._tell(*self.backend.read_gradient(gradient)[:2])

    def _with_carried(self, parts: list[Any]) -> Any:
        """Whatever scales the others leaves the carried ones as they are: a mean over ranks, unscaled."""
        ids, ordinals, values = (x.to(self.device) for x in vars(self.carried).values())
        self.carried = None
        mode = LookupMode(insert=True, touch=False)
        self.state, rows, _ = self.backend.lookup(self.state, ids, ordinals, mode=mode, clock=self.clock)
        values = values / (self.scale * self.optimizer.unscaling(self))  # type: ignore[union-attr]
        none = torch.zeros_like(ordinals)
        late = self.backend.gradient(self.state, ids, ordinals, rows, values, none)
        return self.backend.combine([*parts, late], mean=self.reduce_by_id)

    @as_one
    def discard(self) -> None:
        """Drop pending gradients; rows touched before now are no longer pinned by them."""
        if self._pending:
            self._consumed()

    def _consumed(self) -> None:
        self._pending, self._combined, self._measure, self._oldest_pending = [], None, None, None
        self._stepped()

    def _stepped(self) -> None:
        self.step += 1
        if self.eviction is not None:
            self.eviction.filter.finished(self.step)

    @property
    def has_gradient(self) -> bool:
        return bool(self._pending)

    @property
    def columns(self) -> tuple[int, int]:
        """Which columns [beg, end) of a whole row are here."""
        return 0, self.spec.dim

    @property
    def row_dim(self) -> int:
        """Columns of a whole row."""
        return self.spec.dim

    def cut(self, rows: Tensor) -> Tensor:
        """Of whole rows [n, D], or of what is already cut, the columns that are here."""
        return rows

    def slices(self, ordinal: int) -> tuple[int, int] | None:
        """The run of the hash's slices [beg, end) of a logical table whose rows are saved from here; None for none."""
        return 0, SLICES

    def keeps(self, ids: Tensor, ordinal: int) -> Tensor:
        """bool [n]: which of a logical table's ids belong here."""
        return torch.ones(len(ids), dtype=torch.bool)

    def flags(self) -> tuple[bool, bool]:
        """(whether there is a gradient, whether it is finite)"""
        return self.has_gradient, self.measure().finite

    def gradient(self) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """(ids, ordinals, row numbers, values) of the synced gradient."""
        self.sync()
        return None if self._combined is None else self.backend.read_gradient(self._combined)

    @as_one
    def accept_gradient(self, ids: Tensor, ordinal: int, rows: Tensor, values: Tensor) -> None:
        tables = torch.full((len(ids),), ordinal, dtype=torch.int32, device=ids.device)
        self.push(self.backend.gradient(self.state, ids, tables, rows, values), Ticket(self.step))

    @as_one
    def attach(self, optimizer: object, slots: tuple[SlotSpec, ...]) -> None:
        """Give the table an optimizer's slots.

        Raises:
          RecisError: another optimizer holds the table.
        """
        if self.optimizer is not None and self.optimizer is not optimizer:
            raise RecisError(
                f"tables {', '.join(self.names)} share one storage and belong to another {type(self.optimizer).__name__} "
                "already. Use one optimizer for them, with a group each (add_params)."
            )
        self.state = self.backend.add_slots(self.state, slots)
        self.optimizer, self._slots = optimizer, slots
        self._house_slots()

    @as_one
    def insert(self, snapshot: Snapshot) -> None:
        """Write rows by id; slots that no optimizer has asked for yet wait until one does."""
        known = {slot.name for slot in (*self._slots, *self.own_slots)}
        slots = {name: values for name, values in snapshot.slots.items() if name in known}
        snapshot = self._used_now(snapshot)
        self.state = self.backend.restore(self.state, dataclasses.replace(snapshot, slots=slots))
        if slots.keys() != snapshot.slots.keys():
            self._homeless_slots.append(snapshot)
        self._tell(snapshot.ids, snapshot.tables)

    def _used_now(self, snapshot: Snapshot) -> Snapshot:
        """Rows without a history count as used in the step under way, so that no filter takes them for old."""
        if snapshot.stamps is not None or self.step == 0:
            return snapshot
        now = torch.full((len(snapshot.ids),), self.step, dtype=torch.int32)
        scores = now if self.spec.score == "step" else snapshot.scores
        return dataclasses.replace(snapshot, stamps=now, scores=scores)

    def _house_slots(self) -> None:
        waiting, self._homeless_slots = self._homeless_slots, []
        if not waiting:
            return
        now = self.export()
        for snapshot in waiting:
            _overwrite_slots(now, snapshot)
        self.state = self.backend.restore(self.state, now)

    def erase(self, ids: Tensor, ordinal: int) -> None:
        self.forget(ids, torch.full((len(ids),), ordinal, dtype=torch.int32, device=self.device))

    @as_one
    def forget(self, ids: Tensor, ordinals: Tensor) -> None:
        """Erase unique keys, whose gradients are none that are pending."""
        ids, ordinals = ids.to(self.device), ordinals.to(self.device)
        self.state = self.backend.erase(self.state, ids, ordinals)
        self._tell(ids, ordinals)

    @as_one
    def evict(self, ordinals: Iterable[int] | None = None) -> dict[int, int]:
        """Let the filter take rows of these logical tables, or of all; how many of each went. None without a filter."""
        chosen = range(len(self.names)) if ordinals is None else ordinals
        return dict.fromkeys(chosen, 0) if self.eviction is None else self.eviction.run(self, chosen)

    def export(self) -> Snapshot:
        return self.backend.export(self.state)

    def counters(self) -> Counters:
        return self.backend.counters(self.state)

    def stats(self, ordinal: int) -> dict[str, int]:
        """Counts of the storage, and of what was evicted from one logical table."""
        admission: dict[str, int] = self.state.stats() if isinstance(self.backend, AdmittingBackend) else {}
        eviction = {} if self.eviction is None else self.eviction.stats(ordinal)
        tiers = tiered(self.state)
        return {**vars(self.counters()), **admission, **eviction, **({} if tiers is None else tiers.summary())}


def _overwrite_slots(now: Snapshot, loaded: Snapshot) -> None:
    """Put loaded slots at their keys, where those still exist."""
    place = {key: i for i, key in enumerate(zip(now.tables.tolist(), now.ids.tolist(), strict=True))}
    keys = zip(loaded.tables.tolist(), loaded.ids.tolist(), strict=True)
    pairs = [(place[key], i) for i, key in enumerate(keys) if key in place]
    if not pairs:
        return
    there, here = (torch.tensor(side) for side in zip(*pairs, strict=True))
    for name in set(now.slots) & set(loaded.slots):
        now.slots[name][there] = loaded.slots[name][here]
