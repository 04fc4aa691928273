"""One rank's share of a physical table, and what it asks of the other ranks' shares.

Sizes: N ids, U unique keys, D dim, W ranks, T logical tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import (
    Clock,
    LookupCall,
    LookupMode,
    SlotSpec,
    Snapshot,
    TableSpec,
    UpdateRule,
)
from recis_core.backends.errors import RecisError
from recis_core.backends.records import EncodedRows, Partition, Request, RowNoise
from recis_core.exchange.adaptive import Chooser, with_zeros
from recis_core.exchange.hot_rows import HotRows
from recis_core.exchange.keys import SortedKeys, sort_partition
from recis_core.exchange.local_gradient import LocalGradient, joined
from recis_core.exchange.owners import Owners
from recis_core.exchange.residuals import Residuals
from recis_core.exchange.shared_verbs import SharedVerbs
from recis_core.options.precision import Precision
from recis_core.options.sharding import Sharding
from recis_core.table.replacement import Replacement
from recis_core.table.table import Table
from recis_core.table.ticket import Ticket
from recis_core.table.unapplied import Keys, Measure, Unapplied
from recis_core.table.unattended import KEPT
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.exchange.exchange import Exchange
    from recis_core.table.storage import Storage

FORWARD_RESIDUAL = "forward_residual"


@dataclass(frozen=True)
class Asked:
    """A call's unique keys, sorted for travel, and each id's place among them, int32 [N]."""

    call: LookupCall
    mode: LookupMode
    keys: SortedKeys
    inverse: Tensor


@dataclass(frozen=True)
class Saved:
    """What one forward keeps: keys, and row values only where weights need gradients."""

    asked: Asked
    rows: Tensor | None
    weights_need_grad: tuple[bool, ...]
    number: int


@dataclass
class Answered:
    """What the ranks asked here in the last training forward: ids int64 and ordinals int32 of each rank."""

    number: int = -1
    keys: list[tuple[Tensor, Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class AskedHere:
    """What one rank asks of this one: ids int64 and ordinals int32 [n]; counts int32 [n] where they matter."""

    ids: Tensor
    ordinals: Tensor
    counts: Tensor | None


class ShardedTable(Table):
    """A physical table whose rows live on many ranks.

    Backward holds gradients here; `exchange.sync` sends them to the owners, whose `update` consumes them.
    """

    exchange: Exchange
    touched_by_gradients = False  # whether a row's use is its gradient's arrival, and not the lookup
    changes = 0  # inserts, erasures and evictions that all ranks must make alike

    def __init__(
        self,
        create: Callable[[TableSpec], Storage],
        spec: TableSpec,
        names: tuple[str, ...],
        *,
        reduce_by_id: bool,
        shardings: Sequence[Sharding],
        precision: Precision,
        world: int,
        rank: int,
        residual_bytes: int,
    ) -> None:
        super().__init__(create, spec, names, reduce_by_id=reduce_by_id)
        self.shardings, self.precision, self.world = tuple(shardings), precision, world
        self.owners = Owners(self.shardings, spec.uids, world)
        self.answered = Answered()
        self.sent_factor = 1.0
        self.consumed_at = 0
        self._held: list[LocalGradient] = []
        self._erasures_applied = 0  # their count at the last step
        self.to_rows, self.to_gradients = Chooser(precision.forward), Chooser(precision.backward)
        keeps = precision.backward.error_feedback
        self.residuals = Residuals(self.backend, spec, self.row_dim, residual_bytes) if keeps else None
        self.hot = HotRows(self, shardings[0].hot_rows) if shardings[0].hot_rows else None
        if precision.forward.error_feedback:
            self._keep_forward_residual()

    @property
    def row_dim(self) -> int:
        """Columns of a whole row."""
        return self.spec.dim

    def dim_of(self, rank: int) -> int:
        """Columns of the rows that a rank answers with."""
        return self.spec.dim

    def side_by_side(self, answers: list[Tensor]) -> Tensor:
        """All ranks' answers as rows in the order of the keys."""
        return torch.cat(answers)

    def shares(self, values: Tensor) -> list[Tensor]:
        """Gradients of whole rows as what goes to owners; one for all, or one for each rank."""
        return [values]

    def _keep_forward_residual(self) -> None:
        self.own_slots = (SlotSpec(FORWARD_RESIDUAL, self.spec.dim),)
        self.storage.add_slots(self.own_slots)

    # Forward

    def ask(self, call: LookupCall, mode: LookupMode) -> Asked:
        """Dedup before the wire."""
        lengths = torch.tensor(call.lengths, dtype=torch.int64)
        ordinals = torch.repeat_interleave(torch.tensor(call.ordinals, dtype=torch.int32), lengths)
        p = self.storage.partition(call.ids, ordinals.to(call.ids.device))
        hot = None if self.hot is None else self.hot.find(p.ids, p.tables)
        if self.hot is not None and mode.insert and mode.touch:
            self.hot.use(p.ids, p.tables, p.counts)
        return Asked(call, mode, *sort_partition(p, self.owners, hot))

    def counts_to(self, mode: LookupMode) -> int | None:
        """How many of a key's occurrences its owner asks for in a lookup; None: none."""
        gate = self.storage.gate
        return gate.counts_to if gate is not None and mode.insert and mode.touch else None

    def answer(self, asked: list[AskedHere], mode: LookupMode, number: int) -> tuple[EncodedRows, Tensor]:
        """Rows of all keys that ranks ask of this one: encoded once a row, and which row each asks for."""
        if mode.insert and mode.touch:
            self.answered = Answered(number, [(a.ids, a.ordinals) for a in asked])
        p = self.storage.partition(torch.cat([a.ids for a in asked]), torch.cat([a.ordinals for a in asked]))
        rows = self._find_or_insert(p.ids, p.tables, _occurrences(asked, p), mode)
        values = self.storage.gather(rows, p.ids, p.tables, unknown=mode.unknown)
        return self._encode_forward(values, rows, p, mode), p.inverse

    def _find_or_insert(self, ids: Tensor, ordinals: Tensor, counts: Tensor | None, mode: LookupMode) -> Tensor:
        """Row numbers of unique keys."""
        rows, _ = self.storage.lookup(ids, ordinals, mode=mode, clock=self.clock, counts=counts)
        if mode.insert and self.observers:
            self._tell(ids[rows >= 0], ordinals[rows >= 0])
        return rows

    def _encode_forward(self, values: Tensor, rows: Tensor, p: Partition, mode: LookupMode) -> EncodedRows:
        codec, trains = self.to_rows.at(self.step), mode.insert and mode.touch
        if codec.error_feedback and mode.insert and not trains:
            raise RecisError(
                "the engine is inside a region that activation checkpointing runs again, and its rows travel with "
                "error feedback, which has moved on: they would come out other than the first time. Keep the "
                "engine outside the region, or the forward precision without error feedback."
            )
        noise = self.noise(p.ids, p.tables) if codec.row.stochastic else None
        feeds, measures = codec.error_feedback and trains, trains and self.to_rows.measures(self.step)
        residual = self.storage.read_slot(FORWARD_RESIDUAL, rows) if feeds else None
        if measures:
            residual = with_zeros(residual, values)
        encoded = self.backend.encode(values, residual, codec=codec.row, noise=noise)
        if feeds:
            self.storage.write_slot(FORWARD_RESIDUAL, rows, encoded.residual)
        if measures:
            self.to_rows.measure(values, encoded.residual)
        return encoded

    def noise(self, ids: Tensor, ordinals: Tensor) -> RowNoise:
        """Of keys, at this step."""
        uids = torch.tensor(self.spec.uids, device=ids.device)[ordinals.long()]
        return RowNoise(self.spec.seed, uids, ids, self.step)

    def pool(self, asked: Asked, rows: Tensor) -> list[Tensor]:
        """One output a request, from the rows [U, D] of asked.keys."""
        return [
            self.backend.pool(rows, inverse, r.offsets, r.weights, combiner=r.combiner, tile_len=r.tile_len)
            for r, inverse in _runs(asked)
        ]

    # Backward

    def embed_grad(self, saved: Any, grads: list[Tensor | None]) -> tuple[Any, list[Tensor | None]]:
        asked, total, to_weights = saved.asked, None, []
        rows = saved.rows if saved.rows is not None else self._like_rows(asked)
        for (r, inverse), grad, need in zip(_runs(asked), grads, saved.weights_need_grad, strict=True):
            if grad is None:
                to_weights.append(torch.zeros(len(inverse), device=inverse.device) if need else None)
                continue
            by_row, of_weights = self.backend.pool_grad(
                grad, rows, inverse, r.offsets, r.weights,
                combiner=r.combiner, tile_len=r.tile_len, weights_need_grad=need,
            )  # fmt: skip
            total = by_row if total is None else total + by_row
            to_weights.append(of_weights)
        if not asked.mode.insert:
            return None, to_weights
        return LocalGradient(asked.keys, torch.zeros_like(rows) if total is None else total, saved.number), to_weights

    def _like_rows(self, asked: Asked) -> Tensor:
        """Of the rows' shape; a gradient to rows alone never reads them."""
        return torch.empty(len(asked.keys.ids), self.row_dim, device=asked.call.ids.device)

    def push(self, gradient: Any, ticket: Ticket) -> None:
        if gradient is None:
            return
        self.exchange.require_open()
        with self.lock:
            self._held = [*self._held, self._of_living(gradient, ticket)]
            if len(self._held) > KEPT and self.optimizer is None:
                self._held = [joined(self._held, self.backend, self.owners)]

    @property
    def waiting(self) -> int:
        return len(self._held)

    def _of_living(self, gradient: LocalGradient, ticket: Ticket) -> LocalGradient:
        if ticket.erasures == self.erasures.count:
            return gradient
        return self._left_of(gradient, self.erasures.gone(ticket.erasures, gradient.keys.ids, gradient.keys.ordinals))

    def _left_of(self, held: LocalGradient, gone: Tensor) -> LocalGradient:
        return held.without(gone, self.owners) if bool(gone.any()) else held

    @property
    def held(self) -> Any:
        return self._held

    @held.setter
    def held(self, held: Any) -> None:
        self._held = held

    # What lives here

    def slices(self, ordinal: int) -> tuple[int, int] | None:
        return self.owners.slices_of(ordinal, self.exchange.channel.rank)

    def keeps(self, ids: Tensor, ordinal: int) -> Tensor:
        if self.owners.everywhere:
            return super().keeps(ids, ordinal)
        ordinals = torch.full((len(ids),), ordinal, dtype=torch.int32)
        return self.owners.of_ids(ids, ordinals) == self.exchange.channel.rank

    def verbs(self, ordinal: int) -> SharedVerbs:
        return SharedVerbs(self, ordinal)

    # The step

    @property
    def clock(self) -> Clock:
        """Rows asked for since the last step are pinned: their gradients may still come, from any rank."""
        return Clock(self.step, self.step)

    @property
    def held_finite(self) -> bool:
        return all(h.finite for h in self._held)

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def take_held(self) -> LocalGradient | None:
        """What backward has left here, summed by key; it stays until `drop_held`."""
        if len(self._held) > 1:
            self._held = [joined(self._held, self.backend, self.owners)]
        return self._held[0] if self._held else None

    def drop_held(self) -> None:
        """It was sent."""
        self._held = []

    def receive(self, ids: Tensor, ordinals: Tensor, values: Tensor, counts: Tensor | None) -> None:
        """One rank's gradient of rows that live here."""
        if not len(ids):
            return
        # A key whose row was erased since the last step has none, unless it was asked for again; others have theirs.
        erased = self.erasures.count != self._erasures_applied and not self.replicated
        mode = LookupMode(insert=not erased, touch=self.touched_by_gradients)
        rows, _ = self.storage.lookup(ids, ordinals, mode=mode, clock=self.clock)
        if erased:
            here = rows >= 0
            ids, ordinals, rows, values = ids[here], ordinals[here], rows[here], values[here]
            counts = None if counts is None else counts[here]
        gradient = self.storage.gradient(ids, ordinals, rows, values, counts)
        self.unapplied = self.unapplied.with_gradient(gradient, self.step)

    @property
    def received(self) -> tuple[Any, ...]:
        """Gradients of rows that live here, one a rank that sent some."""
        return self.unapplied.gradients

    @property
    def scale(self) -> float:
        """Gradients are means over ranks, as DDP's; and what was sent may be unscaled already."""
        return 1.0 / (self.world * self.sent_factor)

    @property
    def has_gradient(self) -> bool:
        return self.exchange.forwards > self.consumed_at or bool(self.received)

    def sync(self) -> None:
        self.exchange.sync()
        self.combine()

    def flags(self) -> tuple[bool, bool]:
        return self.exchange.flags()

    def measure(self, kind: str = "norm") -> Measure:
        self.sync()
        return self.exchange.measure(self, kind)

    def update(self, rule: UpdateRule, hyper: np.ndarray, factor: float, t: tuple[int, ...]) -> None:
        self.sync()
        self._apply(rule, hyper, factor, t, Unapplied())
        try:
            if self.residuals is not None:
                self.residuals.commit()
        finally:  # what follows is so whatever becomes of those
            if self.hot is not None:
                self.hot.stale = bool(len(self.hot.ids)) or self.hot.stale
            self.discard()
            self._stepped()

    def discard(self) -> None:
        self.exchange.drop_in_flight()
        self._held, self.unapplied, self.sent_factor = [], self.unapplied.none(), 1.0
        self._erasures_applied = self.erasures.count
        self.consumed_at = self.exchange.synced_at
        if self.residuals is not None:
            self.residuals.drop()
        self.exchange.forget()

    def clear(self, ordinals: Iterable[int]) -> None:
        """Collective."""
        with self.exchange.channel.failing_together("clear"):
            new = Replacement(self, set(ordinals))
        self.exchange.channel.meet("clear", ("clear", self.names, sorted(ordinals)))
        new.commit()

    def rows_went(self, keys: Keys) -> None:
        """With them what this rank has not sent of their gradients. Where all ranks forget a table, it begins anew."""
        super().rows_went(keys)
        self._held = [self._left_of(h, keys.among(h.keys.ids, h.keys.ordinals)) for h in self._held]
        if self.residuals is not None:
            self.residuals.forget(keys)
        if keys.ids is not None:
            return
        if self.hot is not None:
            self.hot = HotRows(self, self.hot.count)
        if len(keys.ordinals) == len(self.names):
            self.to_rows, self.to_gradients = Chooser(self.precision.forward), Chooser(self.precision.backward)

    def agree_to_load(self, ordinals: Iterable[int], *, refuses: bool) -> list[int]:
        """Collective."""
        said = torch.full((self.world, 1), int(refuses))
        theirs = self.exchange.channel.meet("load_state_dict", ("load", self.names, sorted(ordinals)), said)
        return [int(rank) for rank in theirs[:, 0].nonzero().flatten()]

    def insert(self, snapshot: Snapshot) -> None:
        super().insert(snapshot)
        self._wrote()

    def forget(self, ids: Tensor, ordinals: Tensor) -> None:
        super().forget(ids, ordinals)
        self._wrote()

    def _wrote(self) -> None:
        """On this rank alone, as far as it knows."""
        if self.hot is not None:
            self.hot.written = True

    @as_one
    def accept_gradient(self, ids: Tensor, ordinal: int, rows: Tensor, values: Tensor) -> None:
        with self.lock:
            tables = torch.full((len(ids),), ordinal, dtype=torch.int32, device=ids.device)
            gradient = self.storage.gradient(ids, tables, rows, values)
            self.unapplied = self.unapplied.with_gradient(gradient, self.step)


def _occurrences(asked: list[AskedHere], p: Partition) -> Tensor | None:
    """int32 [U]: of each key on all ranks."""
    counts = [a.counts for a in asked if a.counts is not None]
    return torch.zeros_like(p.counts).index_add_(0, p.inverse.long(), torch.cat(counts)) if counts else None


def _runs(asked: Asked) -> list[tuple[Request, Tensor]]:
    """The requests, each with its part of the inverse."""
    lengths = [int(r.offsets[-1]) for r in asked.call.requests]
    return list(zip(asked.call.requests, asked.inverse.split(lengths), strict=True))
