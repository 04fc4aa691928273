"""One physical table: a backend's state, the logical tables in it, and gradients waiting for the step.

Sizes: N ids, U unique ids, D dim.
"""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import (
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
from recis_core.backends.errors import RecisError
from recis_core.process import generation, refuse_in_child, refuse_to_pickle
from recis_core.table.admission.admitting_storage import FIND, tables_of
from recis_core.table.erasures import Erasures
from recis_core.table.replacement import Replacement
from recis_core.table.unapplied import Carried, Keys, Measure, Unapplied
from recis_core.table.unattended import KEPT, Unattended
from recis_core.table.verbs import Verbs
from recis_core.table.waiting_slots import Waiting, check_waiting, slots_without, with_snapshot
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.table.content import Content
    from recis_core.table.eviction.eviction import Eviction
    from recis_core.table.exchange_interface import Exchange
    from recis_core.table.storage import Storage

COUNTED = ("found", "inserted", "unknown", "evicted", "erased")
SLICES = 1 << placement.SLICE_BITS


class Ticket:
    """A forward whose backward may still come; while it lives and waits, the rows it touched are pinned.

    It is told when its last backward came: a frame that an exception or a compilation left behind may keep it alive.
    """

    def __init__(self, step: int, erasures: int = 0) -> None:
        self.step, self.erasures, self.waits = step, erasures, True


class PhysicalTable:
    """Storage of the logical tables `names`; `names[k]` has uid spec.uids[k].

    A gradient is pushed by backward, combined by `sync`, and consumed by `update` or `discard`. It goes with the rows
    that it is of, as do slots that wait for an optimizer: with an erasure, `clear`, or another state in the table's place.

    What a call changes it prepares first and then assigns in one line, so that a call that raises has changed nothing.
    `lock` makes calls of several threads follow one another.
    """

    exchange: Exchange | None = None  # to the ranks that share the table, if there are any
    own_slots: tuple[SlotSpec, ...] = ()  # slots beside an optimizer's
    replicated = False  # whether other ranks hold the same rows
    eviction: Eviction | None = None  # which rows go when it is told to evict

    def __init__(
        self, create: Callable[[TableSpec], Storage], spec: TableSpec, names: tuple[str, ...], *, reduce_by_id: bool
    ) -> None:
        self.spec, self.names = spec, names
        self.reduce_by_id = reduce_by_id
        self.device = torch.device(spec.device)
        self._made_in = generation()
        self._storage = create(spec)
        self.backend = self._storage.backend
        self._optimizer: Callable[[], Any] = _nobody  # weakly, so that another may follow it
        self._slots: tuple[SlotSpec, ...] = ()
        self._former_slots: set[str] = set()  # of optimizers of other kinds before this one
        self.applied = (0,) * len(names)  # t of each logical table: steps that were applied to it
        self.lock = threading.RLock()
        self.unapplied = Unapplied()
        self.erasures = Erasures()
        self.unattended = Unattended()
        self._tickets: weakref.WeakSet[Ticket] = weakref.WeakSet()
        self._homeless_slots: Waiting = ()
        self._counted = Counters()  # by states that gave way to others
        # Called with (ids, ordinals) of rows that may have come, gone or changed, after they did.
        self.observers: list[Callable[[Tensor, Tensor], None]] = []
        # How often the whole state gave way to another, as by a load: then observers hear of no ids.
        self.replacements = 0
        self.written = 0  # how often rows were set by id

    def verbs(self, ordinal: int) -> Verbs:
        """What one of its logical tables is asked for beside training."""
        return Verbs(self, ordinal)

    @property
    def storage(self) -> Storage:
        """Where the rows are.

        Raises:
          RecisError: this is a forked child of the process that made the table.
        """
        if self._made_in != generation():
            refuse_in_child(f"table(s) {', '.join(self.names)}", self._made_in)
        return self._storage

    @property
    def is_a_parents(self) -> bool:
        """Whether this process was forked from the one that made the table."""
        return self._made_in != generation()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_to_pickle(f"the storage of tables {', '.join(self.names)}")

    def _tell(self, ids: Tensor, ordinals: Tensor) -> None:
        for observer in self.observers:
            observer(ids, ordinals)

    @cached_property
    def step(self) -> int:
        """Finished optimizer steps; at first those that the rows come with."""
        return self.storage.steps()

    @property
    def optimizer(self) -> Any:
        """The optimizer that has the table, as long as it lives."""
        return self._optimizer()

    @property
    def scale(self) -> float:
        """Multiplies the synced gradient, besides what the optimizer says."""
        return 1.0

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

    def ticket(self) -> Ticket:
        """Of a forward that begins now."""
        ticket = Ticket(self.step, self.erasures.count)
        self._tickets.add(ticket)
        return ticket

    def _known(self, call: LookupCall) -> tuple[Tensor, Tensor]:
        """Keys of a call that inserted, without those that were not admitted."""
        keys = call.ids, tables_of(call)
        if self._storage.gate is None:
            return keys
        p = self.storage.partition(*keys)
        rows, _ = self.storage.lookup(p.ids, p.tables, mode=FIND, clock=self.clock)
        return p.ids[rows >= 0], p.tables[rows >= 0]

    def embed_grad(self, saved: Any, grads: list[Tensor | None]) -> tuple[Any, list[Tensor | None]]:
        """Backward of `embed`: the gradient to push, and one for each request's weights, as asked."""
        return self._storage.embed_grad(saved, grads)

    def push(self, gradient: object | None, ticket: Ticket) -> None:
        """Hold a backward's gradient until the step."""
        if gradient is None:
            return
        with self.lock:
            gradient = self._of_living(gradient, ticket)
            waits = self.unapplied.with_gradient(gradient, ticket.step)
            if len(waits.gradients) > KEPT and self.optimizer is None:
                waits = waits._replace(gradients=(self._storage.combine(list(waits.gradients)),))
            self.unapplied = waits

    def _of_living(self, gradient: Any, ticket: Ticket) -> Any:
        """Without the keys that were erased after the gradient's forward."""
        if ticket.erasures == self.erasures.count:
            return gradient
        gone = self.erasures.gone(ticket.erasures, *self._storage.read_gradient(gradient)[:2])
        return self._storage.without(gradient, gone) if bool(gone.any()) else gradient

    def forgotten(self, ticket: Ticket, backward: int) -> bool:
        """Whether gradients of several backwards wait, and no optimizer is there to take them; yes once."""
        return self.optimizer is None and self.unattended.goes_on(ticket, backward, self._waiting)

    @property
    def _waiting(self) -> int:
        return len(self._pending)

    @property
    def held(self) -> Any:
        """What backwards have left, to put back where several tables take theirs together or not at all."""
        return self.unapplied

    @held.setter
    def held(self, held: Any) -> None:
        self.unapplied = held

    def sync(self) -> None:
        """Combine what is pending. Idempotent."""
        with self.lock:
            waits = self.unapplied
            if waits.gradients and waits.combined is None:
                combined = self._storage.combine(list(waits.gradients), mean=self.reduce_by_id)
                self.unapplied = waits._replace(combined=combined)

    def measure(self, kind: str = "norm") -> Measure:
        """Σ values² and finiteness of the synced gradient; zero and finite where there is none.

        kind: "norm" for a step, "clip" for a norm: what ranks that share the table must agree on.
        """
        with self.lock:
            self.sync()
            waits = self.unapplied
            if waits.combined is None:
                return Measure(0.0, True)
            if waits.measure is not None:
                return waits.measure
            squares, finite = self._storage.measure(waits.combined)
            measure = Measure(float(squares), bool(finite))
            self.unapplied = waits._replace(measure=measure)
            return measure

    def update(self, rule: UpdateRule, hyper: np.ndarray, factor: float, t: tuple[int, ...]) -> None:
        """Apply the synced gradient, if there is one, and consume it."""
        with self.lock:
            self.sync()
            self._apply(rule, hyper, factor, t, Unapplied())
            self._stepped()

    def _apply(self, rule: UpdateRule, hyper: np.ndarray, factor: float, t: tuple[int, ...], after: Unapplied) -> None:
        """Update by the synced gradient, and by what a loaded state carried; `after` waits then."""
        waits = self.unapplied
        gradient = waits.combined if waits.carried is None else self._with_carried(waits.carried)
        if gradient is None:
            self.unapplied, self.applied = after, t
            return
        told = self._storage.read_gradient(gradient)[:2] if self.observers else None
        update = partial(self.storage.update, hyper=hyper, factor=factor, t=t)
        _, self.unapplied, self.applied = update(gradient, rule), after, t
        if told is not None:
            self._tell(*told)

    def _with_carried(self, carried: Carried) -> Any:
        """Whatever scales the others leaves the carried ones as they are: a mean over ranks, unscaled."""
        ids, ordinals, values = (x.to(self.device) for x in vars(carried).values())
        mode = LookupMode(insert=True, touch=False)
        rows, _ = self.storage.lookup(ids, ordinals, mode=mode, clock=self.clock)
        values = values / (self.scale * self.optimizer.unscaling(self))
        none = torch.zeros_like(ordinals)
        late = self.storage.gradient(ids, ordinals, rows, values, none)
        return self.storage.combine([*self.unapplied.gradients, late], mean=self.reduce_by_id)

    @as_one
    def discard(self) -> None:
        """Drop pending gradients; rows touched before now are no longer pinned by them."""
        with self.lock:
            if self.unapplied.gradients:
                self.unapplied = self.unapplied.none()
                self._stepped()

    def _stepped(self) -> None:
        self.step += 1
        if self.eviction is not None:
            self.eviction.filter.finished(self.step)

    @property
    def _pending(self) -> tuple[Any, ...]:
        """Gradients of backwards since the last step."""
        return self.unapplied.gradients

    @property
    def has_gradient(self) -> bool:
        return bool(self._pending)

    @property
    def carried(self) -> Carried | None:
        """Gradients that a saved state had not applied."""
        return self.unapplied.carried

    @carried.setter
    def carried(self, carried: Carried | None) -> None:
        self.unapplied = self.unapplied._replace(carried=carried)

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
        with self.lock:
            self.sync()
            combined = self.unapplied.combined
            return None if combined is None else self._storage.read_gradient(combined)

    @as_one
    def accept_gradient(self, ids: Tensor, ordinal: int, rows: Tensor, values: Tensor) -> None:
        with self.lock:
            tables = torch.full((len(ids),), ordinal, dtype=torch.int32, device=ids.device)
            self.push(self.storage.gradient(ids, tables, rows, values), self.ticket())

    def require_free(self, optimizer: object, slots: tuple[SlotSpec, ...]) -> set[str]:
        """Names of slots in use that a former optimizer had and this one has not.

        Raises:
          RecisError: another optimizer holds the table.
          ValueError: slots that came with its rows are of another form.
        """
        check_waiting(self._homeless_slots, slots, self.names, type(optimizer).__name__)
        if self.optimizer is not None and self.optimizer is not optimizer:
            raise RecisError(
                f"tables {', '.join(self.names)} share one storage and belong to another {type(self.optimizer).__name__} "
                "already. Use one optimizer for them, with a group each (add_params); for two kinds of optimizer give "
                'tables other options, as EmbeddingOption(storage="…"), by which they share no storage; to make a new '
                "optimizer in place of that one, delete it first, with what holds it, as schedulers and joined optimizers."
            )
        return {slot.name for slot in self._slots} - {slot.name for slot in slots}

    @as_one
    def attach(self, optimizer: object, slots: tuple[SlotSpec, ...]) -> None:
        """Give the table an optimizer's slots. Those of a former one of the same kind go on, with `applied`.

        Raises:
          RecisError: another optimizer holds the table, or a former one has left slots of that name and another form.
          ValueError: slots that came with its rows are of another form.
        """
        with self.lock:
            left, names = self.require_free(optimizer, slots), {slot.name for slot in slots}
            self._add_slots(slots, type(optimizer).__name__)
            again = self._former_slots & names
            self._renew({slot.name: slot.initial for slot in slots if slot.name in again})
            self._house_slots(names)
            if self.optimizer is not optimizer and names != {slot.name for slot in self._slots}:
                self.applied = (0,) * len(self.names)
            self._former_slots = (self._former_slots | left) - again
            self._optimizer, self._slots, self._homeless_slots = weakref.ref(optimizer), slots, ()

    def _add_slots(self, slots: tuple[SlotSpec, ...], kind: str) -> None:
        try:
            self.storage.add_slots(slots)
        except ValueError as error:
            raise RecisError(
                f"tables {', '.join(self.names)} hold slots of a former optimizer that {kind} wants otherwise: {error} "
                "Load the rows into a second engine, without keys that hold '.slot.'."
            ) from error

    def _renew(self, initial: dict[str, float]) -> None:
        """Slots that rested while an optimizer of another kind had the table begin anew."""
        if not initial:
            return
        now = self.export()
        for name in initial.keys() & now.slots.keys():
            now.slots[name].fill_(initial[name])
        self.storage.restore(now)

    def _house_slots(self, wanted: set[str]) -> None:
        """Write slots that came with rows to where those are now."""
        for part in self._homeless_slots:
            ids, ordinals = part.ids.to(self.device), part.ordinals.to(self.device)
            rows, _ = self.storage.lookup(ids, ordinals, mode=FIND, clock=self.clock)
            for name in part.slots.keys() & wanted:
                self.storage.write_slot(name, rows, part.slots[name].to(self.device))

    @as_one
    def insert(self, snapshot: Snapshot) -> None:
        """Write rows by id; slots that no optimizer has asked for yet wait until one does."""
        with self.lock:
            known = {slot.name for slot in self.slot_specs}
            snapshot = self.incoming(snapshot)
            waiting = with_snapshot(self._homeless_slots, snapshot, known)
            slots = {name: values for name, values in snapshot.slots.items() if name in known}
            snapshot = dataclasses.replace(snapshot, slots=slots)
            self.written += 1
            restore = partial(self.storage.restore, snapshot)
            _, self._homeless_slots = restore(), waiting
            self._tell(snapshot.ids, snapshot.tables)

    def clear(self, ordinals: Iterable[int]) -> None:
        """Forget all rows of these logical tables, with all that waits for them."""
        Replacement(self, set(ordinals)).commit()

    def agree_to_load(self, ordinals: Iterable[int], *, refuses: bool) -> list[int]:
        """Other ranks whose part of a state is refused: then none takes its own."""
        return []

    def take_place(self, content: Content, keys: Keys, waiting: Waiting) -> None:
        """Rows instead of those of `keys`, without what waited for these."""
        unapplied, _, erasures = self.left_without(keys)
        counted = self._counted if content.gone is None else _counted(self.counters(), content.gone)
        left = unapplied, waiting, erasures, counted
        self.replacements += 1
        self._storage, (self.unapplied, self._homeless_slots, self.erasures, self._counted) = content.put(), left
        self.rows_went(keys)

    def rows_went(self, keys: Keys) -> None:
        """What hooks remember of rows goes with them."""
        if self.eviction is not None:
            self.eviction.filter.forget(keys)
        if self._storage.gate is not None and keys.ids is None:
            self._storage.gate.policy.clear(keys.ordinals)

    @property
    def slot_specs(self) -> tuple[SlotSpec, ...]:
        """The slots of every row."""
        return *self.own_slots, *self._slots

    def incoming(self, snapshot: Snapshot) -> Snapshot:
        """Rows as they are to be written here."""
        return self._used_now(snapshot)

    def _used_now(self, snapshot: Snapshot) -> Snapshot:
        """Rows without a history count as used in the step under way, so that no filter takes them for old."""
        if snapshot.stamps is not None or self.step == 0:
            return snapshot
        now = torch.full((len(snapshot.ids),), self.step, dtype=torch.int32)
        scores = now if self.spec.score == "step" else snapshot.scores
        return dataclasses.replace(snapshot, stamps=now, scores=scores)

    def erase(self, ids: Tensor, ordinal: int) -> None:
        self.forget(ids, torch.full((len(ids),), ordinal, dtype=torch.int32, device=self.device))

    @as_one
    def forget(self, ids: Tensor, ordinals: Tensor) -> None:
        """Erase unique keys, with the gradients that are to come to their rows, and slots that wait for them."""
        with self.lock:
            keys = Keys(ids.cpu(), ordinals.cpu())
            ids, ordinals = ids.to(self.device), ordinals.to(self.device)
            left, erase = self.left_without(keys), partial(self.storage.erase, ids, ordinals)
            _, (self.unapplied, self._homeless_slots, self.erasures) = erase(), left
            self._tell(ids, ordinals)
            self.rows_went(keys)

    def left_without(self, keys: Keys) -> tuple[Unapplied, Waiting, Erasures]:
        """What of the table waits for rows, once these are erased."""
        oldest = min((t.erasures for t in self._tickets if t.waits), default=None)
        waiting = slots_without(self._homeless_slots, keys)
        return self.unapplied.without(self._storage, keys), waiting, self.erasures.and_then(keys, oldest)

    @as_one
    def evict(self, ordinals: Iterable[int] | None = None) -> dict[int, int]:
        """Let the filter take rows of these logical tables, or of all; how many of each went. None without a filter."""
        chosen = range(len(self.names)) if ordinals is None else ordinals
        return dict.fromkeys(chosen, 0) if self.eviction is None else self.eviction.run(self, chosen)

    def export(self) -> Snapshot:
        with self.lock:
            return self.storage.export()

    def counters(self) -> Counters:
        with self.lock:
            now, before = self.storage.counters(), self._counted
        summed = {name: getattr(now, name) + getattr(before, name) for name in COUNTED}
        return dataclasses.replace(now, **summed)

    def stats(self, ordinal: int) -> dict[str, int]:
        """Counts of the storage, and of one logical table its rows and what was evicted from it."""
        eviction = {} if self.eviction is None else self.eviction.stats(ordinal)
        counted = vars(self.counters())
        rows = {"rows": Verbs(self, ordinal).count(), "storage_rows": counted["rows"]}
        return {**counted, **rows, **self.storage.stats(), **eviction}

    def flush(self) -> None:
        """Every row on its disk, where it has one."""
        if self.storage.tiers is not None:
            self.storage.tiers.flush(self.step)

    def close(self) -> None:
        """Give back the disk, once; what is kept is flushed before."""
        tiers = self.storage.tiers
        if tiers is not None and tiers.opened:  # or `step` would open it
            tiers.close(self.step)


def _nobody() -> None:
    """In place of a weak reference, before there is an optimizer."""


def _counted(so_far: Counters, gone: int) -> Counters:
    """By a state so many of whose rows go, and those before it."""
    return Counters(so_far.found, so_far.inserted, so_far.unknown, so_far.evicted, so_far.erased + gone)
