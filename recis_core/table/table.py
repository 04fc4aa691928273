"""What a table of one rank and a rank's share of a table have in common: a storage, slots, and gradients of this rank's rows.

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

from recis_core.backends import Counters, LookupMode, SlotSpec, Snapshot, TableSpec, UpdateRule, placement
from recis_core.backends.errors import RecisError
from recis_core.process import generation, refuse_in_child, refuse_to_pickle
from recis_core.table.admission.gate_part import GatePart
from recis_core.table.erasures import Erasures
from recis_core.table.eviction.eviction_part import EvictionPart
from recis_core.table.named_table import NamedTable
from recis_core.table.optimizer_slots import (
    Waiting,
    add_slots,
    check_waiting,
    house,
    renew,
    slots_without,
    with_snapshot,
)
from recis_core.table.state_parts import StatePart
from recis_core.table.table_interface import TableInterface
from recis_core.table.ticket import Ticket
from recis_core.table.unapplied import Carried, Keys, Measure, Unapplied
from recis_core.table.unattended import Unattended
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.options.sharding import Sharding
    from recis_core.table.content import Content
    from recis_core.table.eviction.eviction import Eviction
    from recis_core.table.exchange_interface import Exchange
    from recis_core.table.storage import Storage

SLICES = 1 << placement.SLICE_BITS
COUNTED = ("found", "inserted", "unknown", "evicted", "erased")


class Table(TableInterface):
    """Storage of the logical tables `names`; `names[k]` has uid spec.uids[k].

    When rows are erased, cleared or replaced, their pending gradients and waiting slots are dropped with them.

    A call prepares its changes first and then assigns them in one line, so that a call that raises has changed nothing.
    `lock` serializes calls of several threads.
    """

    exchange: Exchange | None = None  # with the ranks that share the table
    own_slots: tuple[SlotSpec, ...] = ()  # slots beside the optimizer's
    world = 1  # ranks that share the table
    shardings: tuple[Sharding, ...] = ()  # of each logical table, if ranks share the table
    eviction: Eviction | None = None  # chooses the rows that `evict` erases

    def __init__(
        self, create: Callable[[TableSpec], Storage], spec: TableSpec, names: tuple[str, ...], *, reduce_by_id: bool
    ) -> None:
        self.spec, self.names = spec, names
        self.reduce_by_id = reduce_by_id
        self.device = torch.device(spec.device)
        self._made_in = generation()
        self._storage = create(spec)
        self.backend = self._storage.backend
        self._optimizer: Callable[[], Any] = _nobody  # weak, so that another may follow it
        self._slots: tuple[SlotSpec, ...] = ()
        self._former_slots: set[str] = set()  # left by former optimizers of other kinds
        self.applied = (0,) * len(names)  # t of each logical table: steps applied to it
        self.lock = threading.RLock()
        self.unapplied = Unapplied()
        self.erasures = Erasures()
        self.unattended = Unattended()
        self._tickets: weakref.WeakSet[Ticket] = weakref.WeakSet()
        self._homeless_slots: Waiting = ()
        self._counted = Counters()  # of storages that were replaced
        # Called with (ids, ordinals) of rows that may have been added, erased or changed, after the change.
        self.observers: list[Callable[[Tensor, Tensor], None]] = []
        # How often rows were replaced as a whole, as by a load; observers are not called then.
        self.replacements = 0
        self.written = 0  # how often rows were set by id

    @property
    def storage(self) -> Storage:
        """The table's storage.

        Raises:
          RecisError: this is a forked child of the process that made the table.
        """
        if self._made_in != generation():
            refuse_in_child(f"table(s) {', '.join(self.names)}", self._made_in)
        return self._storage

    @property
    def state(self) -> Any:
        """What the storage's backend keeps, for those who look inside; opaque."""
        return self.storage.state

    @property
    def _pending(self) -> tuple[Any, ...]:
        """Gradients that wait for the step."""
        return self.unapplied.gradients

    @property
    def is_a_parents(self) -> bool:
        """Whether a parent of this forked process made the table."""
        return self._made_in != generation()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_to_pickle(f"the storage of tables {', '.join(self.names)}")

    def _tell(self, ids: Tensor, ordinals: Tensor) -> None:
        for observer in self.observers:
            observer(ids, ordinals)

    @cached_property
    def step(self) -> int:
        """Finished optimizer steps; at first those of the storage."""
        return self.storage.steps()

    @property
    def optimizer(self) -> Any:
        """The optimizer that has the table, or None once it is deleted."""
        return self._optimizer()

    def ticket(self) -> Ticket:
        """The ticket of a forward that begins now."""
        ticket = Ticket(self.step, self.erasures.count)
        self._tickets.add(ticket)
        return ticket

    def forgotten(self, ticket: Ticket, backward: int) -> bool:
        """Whether gradients of several backwards wait and the table has no optimizer; True only once."""
        return self.optimizer is None and self.unattended.goes_on(ticket, backward, self.waiting)

    replicated = False  # whether other ranks hold the same rows

    @property
    def columns(self) -> tuple[int, int]:
        """The columns [beg, end) of a whole row that this rank holds."""
        return 0, self.spec.dim

    @property
    def row_dim(self) -> int:
        """Columns of a whole row."""
        return self.spec.dim

    def cut(self, rows: Tensor) -> Tensor:
        """This rank's columns of whole rows [n, D]; rows that are cut already stay as they are."""
        return rows

    def cut_slots(self, slots: tuple[SlotSpec, ...], optimizer: object) -> tuple[SlotSpec, ...]:
        """Slots as wide as this rank stores them. Raises RecisError if a slot needs whole rows, and no rank has them."""
        return slots

    def slices(self, ordinal: int) -> tuple[int, int] | None:
        """The run of the hash's slices [beg, end) of a logical table that this rank saves, or None."""
        return 0, SLICES

    def keeps(self, ids: Tensor, ordinal: int) -> Tensor:
        """bool [n]: which of a logical table's ids belong on this rank."""
        return torch.ones(len(ids), dtype=torch.bool)

    def state_parts(self) -> dict[str, StatePart]:
        """What a saved state holds of the table beside rows and gradients, by name."""
        parts: dict[str, StatePart] = {}
        if self.storage.gate is not None:
            parts["admission"] = GatePart(self.storage.gate, self.keeps)
        if self.eviction is not None:
            parts["eviction"] = EvictionPart(self.eviction)
        return parts

    def named(self, ordinal: int) -> NamedTable:
        """A logical table's rows on this rank."""
        return NamedTable(self, ordinal)

    def combine(self) -> None:
        """Combine this rank's pending gradients into one. Idempotent."""
        with self.lock:
            waits = self.unapplied
            if waits.gradients and waits.combined is None:
                combined = self._storage.combine(list(waits.gradients), mean=self.reduce_by_id)
                self.unapplied = waits._replace(combined=combined)

    def local_measure(self) -> Measure:
        """Σ values² and finiteness of this rank's pending gradient; zero and finite without one."""
        with self.lock:
            self.combine()
            waits = self.unapplied
            if waits.combined is None:
                return Measure(0.0, True)
            if waits.measure is not None:
                return waits.measure
            squares, finite = self._storage.measure(waits.combined)
            measure = Measure(float(squares), bool(finite))
            self.unapplied = waits._replace(measure=measure)
            return measure

    def _apply(self, rule: UpdateRule, hyper: np.ndarray, factor: float, t: tuple[int, ...], after: Unapplied) -> None:
        """Update by the synced gradient and by what a loaded state carried; then `after` is pending."""
        waits, storage = self.unapplied, self.storage
        gradient = waits.combined if waits.carried is None else self._with_carried(waits.carried)
        if gradient is None:
            self.unapplied, self.applied = after, t
            return
        keys = storage.read_gradient(gradient)[:2] if self.observers else None
        update = partial(storage.update, hyper=hyper, factor=factor, t=t)
        _, self.unapplied, self.applied = update(gradient, rule), after, t
        if keys is not None:
            self._tell(*keys)

    def _with_carried(self, carried: Carried) -> Any:
        """Pending and carried gradients combined; carried ones are unscaled means, so the update's factors are undone."""
        ids, ordinals, values = (x.to(self.device) for x in vars(carried).values())
        mode = LookupMode(insert=True, touch=False)
        rows, _ = self.storage.lookup(ids, ordinals, mode=mode, clock=self.clock)
        values = values / (self.scale * self.optimizer.unscaling(self))
        none = torch.zeros_like(ordinals)
        late = self.storage.gradient(ids, ordinals, rows, values, none)
        return self.storage.combine([*self.unapplied.gradients, late], mean=self.reduce_by_id)

    def _stepped(self) -> None:
        self.step += 1
        if self.eviction is not None:
            self.eviction.filter.finished(self.step)

    @property
    def carried(self) -> Carried | None:
        """Unapplied gradients of a saved state."""
        return self.unapplied.carried

    @carried.setter
    def carried(self, carried: Carried | None) -> None:
        self.unapplied = self.unapplied._replace(carried=carried)

    def gradient(self) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """(ids, ordinals, row numbers, values) of the synced gradient."""
        with self.lock:
            self.sync()
            combined = self.unapplied.combined
            return None if combined is None else self._storage.read_gradient(combined)

    def waiting_gradient(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """(ids, ordinals, values) of gradients that wait on this rank to be sent to the rows' owners; None without one."""
        return None

    def require_free(self, optimizer: object, slots: tuple[SlotSpec, ...]) -> set[str]:
        """Names of slots in use that this optimizer does not have.

        Raises:
          RecisError: another optimizer has the table, or `cut_slots` raises.
          ValueError: slots loaded with rows have another form.
        """
        check_waiting(self._homeless_slots, self.cut_slots(slots, optimizer), self.names, type(optimizer).__name__)
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
        """Give the table an optimizer's slots. Slots and `applied` of a former optimizer of the same kind are kept.

        Raises:
          RecisError: as require_free; or a former optimizer left slots of these names in another form.
          ValueError: slots loaded with rows have another form.
        """
        with self.lock:
            left, slots = self.require_free(optimizer, slots), self.cut_slots(slots, optimizer)
            names = {slot.name for slot in slots}
            add_slots(self.storage, slots, self.names, type(optimizer).__name__)
            again = self._former_slots & names
            renew(self.storage, {slot.name: slot.initial for slot in slots if slot.name in again})
            if self._homeless_slots:  # reading `clock` would open a kept disk
                house(self.storage, self._homeless_slots, names, self.device, self.clock)
            if self.optimizer is not optimizer and names != {slot.name for slot in self._slots}:
                self.applied = (0,) * len(self.names)
            self._former_slots = (self._former_slots | left) - again
            self._optimizer, self._slots, self._homeless_slots = weakref.ref(optimizer), slots, ()

    @as_one
    def insert(self, snapshot: Snapshot) -> None:
        """Write rows by id; slots that the table does not have wait for an optimizer."""
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

    def take_place(self, content: Content, keys: Keys, waiting: Waiting) -> None:
        """Replace the rows of `keys`; drop their pending gradients and waiting slots."""
        unapplied, _, erasures = self.left_without(keys)
        counted = self._counted if content.gone is None else _counted(self.counters(), content.gone)
        left = unapplied, waiting, erasures, counted
        self.replacements += 1
        self._storage, (self.unapplied, self._homeless_slots, self.erasures, self._counted) = content.put(), left
        self.rows_went(keys)

    def rows_went(self, keys: Keys) -> None:
        """Drop what hooks remember of these rows."""
        if self.eviction is not None:
            self.eviction.filter.forget(keys)
        if self._storage.gate is not None and keys.ids is None:
            self._storage.gate.policy.clear(keys.ordinals)

    @property
    def slot_specs(self) -> tuple[SlotSpec, ...]:
        """The slots of every row."""
        return *self.own_slots, *self._slots

    def incoming(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot in the form in which this rank stores rows; its rows may be whole, or cut already."""
        slots = {name: self.cut(values) for name, values in snapshot.slots.items()}
        return self._used_now(dataclasses.replace(snapshot, weights=self.cut(snapshot.weights), slots=slots))

    def _used_now(self, snapshot: Snapshot) -> Snapshot:
        """Rows without stamps count as used now, so that no filter treats them as old."""
        if snapshot.stamps is not None or self.step == 0:
            return snapshot
        now = torch.full((len(snapshot.ids),), self.step, dtype=torch.int32)
        scores = now if self.spec.score == "step" else snapshot.scores
        return dataclasses.replace(snapshot, stamps=now, scores=scores)

    def erase(self, ids: Tensor, ordinal: int) -> None:
        self.forget(ids, torch.full((len(ids),), ordinal, dtype=torch.int32, device=self.device))

    @as_one
    def forget(self, ids: Tensor, ordinals: Tensor) -> None:
        """Erase unique keys, with pending and coming gradients of their rows, and their waiting slots."""
        with self.lock:
            keys = Keys(ids.cpu(), ordinals.cpu())
            ids, ordinals = ids.to(self.device), ordinals.to(self.device)
            left, erase = self.left_without(keys), partial(self.storage.erase, ids, ordinals)
            _, (self.unapplied, self._homeless_slots, self.erasures) = erase(), left
            self._tell(ids, ordinals)
            self.rows_went(keys)

    def left_without(self, keys: Keys) -> tuple[Unapplied, Waiting, Erasures]:
        """What waits in the table once these rows are erased: gradients, slots, and the record of erasures."""
        oldest = min((t.erasures for t in self._tickets if t.waits), default=None)
        waiting = slots_without(self._homeless_slots, keys)
        return self.unapplied.without(self._storage, keys), waiting, self.erasures.and_then(keys, oldest)

    @as_one
    def evict(self, ordinals: Iterable[int] | None = None) -> dict[int, int]:
        """Evict the rows of these logical tables, or of all, that the filter chooses; returns counts, 0 without a filter."""
        wanted = range(len(self.names)) if ordinals is None else list(ordinals)
        if self.eviction is None:
            return dict.fromkeys(wanted, 0)
        with self.eviction.choosing(self.storage, self.device, wanted, self.clock) as chosen:
            if len(chosen.ids):
                self.forget(chosen.ids, chosen.ordinals)
        return chosen.counts

    def export(self) -> Snapshot:
        with self.lock:
            return self.storage.export()

    def counters(self) -> Counters:
        with self.lock:
            now, before = self.storage.counters(), self._counted
        summed = {name: getattr(now, name) + getattr(before, name) for name in COUNTED}
        return dataclasses.replace(now, **summed)

    def stats(self, ordinal: int) -> dict[str, int]:
        """Counts of the storage; of one logical table its rows and its evictions."""
        eviction = {} if self.eviction is None else self.eviction.stats(ordinal)
        counted = vars(self.counters())
        rows = {"rows": self.named(ordinal).count(), "storage_rows": counted["rows"]}
        return {**counted, **rows, **self.storage.stats(), **eviction}

    def flush(self) -> None:
        """Write every updated row to the table's disk, if it has one."""
        if self.storage.tiers is not None:
            self.storage.tiers.flush(self.step)

    def close(self) -> None:
        """Release the disk, once; a kept disk is flushed before."""
        tiers = self.storage.tiers
        if tiers is not None and tiers.disk.opened:  # reading `step` would open it
            tiers.close(self.step)


def _nobody() -> None:
    """A dead weak reference, for a table without an optimizer."""


def _counted(so_far: Counters, gone: int) -> Counters:
    """Counts so far, with `gone` more rows erased."""
    return Counters(so_far.found, so_far.inserted, so_far.unknown, so_far.evicted, so_far.erased + gone)
