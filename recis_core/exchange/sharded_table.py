"""One rank's share of a physical table.

Sizes: N ids, U unique keys, D dim, W ranks, T logical tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import (
    Clock,
    LookupMode,
    SlotSpec,
    Snapshot,
    TableSpec,
    UpdateRule,
)
from recis_core.backends.errors import RecisError
from recis_core.backends.records import RowNoise
from recis_core.exchange.adaptive import Chooser
from recis_core.exchange.column_blocks import ColumnBlocks
from recis_core.exchange.hot_rows import HotRows
from recis_core.exchange.key_requests import KeyRequest, LastRequests, SavedForward
from recis_core.exchange.local_gradient import LocalGradient, joined
from recis_core.exchange.owners import Owners
from recis_core.exchange.residuals import Residuals
from recis_core.exchange.shared_verbs import SharedVerbs
from recis_core.exchange.state_parts import CodecsPart, ResidualPart
from recis_core.options.precision import Codec, Precision
from recis_core.options.sharding import Sharding
from recis_core.table.replacement import Replacement
from recis_core.table.state_parts import StatePart
from recis_core.table.table import SLICES, Table
from recis_core.table.ticket import Ticket
from recis_core.table.unapplied import Keys, Measure, Unapplied
from recis_core.table.unattended import KEPT
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.exchange.exchange import Exchange
    from recis_core.table.storage import Storage

FORWARD_RESIDUAL = "forward_residual"


@final
class ShardedTable(Table):
    """A physical table whose rows are on many ranks: each row on one, a block of its columns on each, or replicated on all.

    Gradients of backwards stay in `local`; `exchange.sync` sends them to the owners, whose `update` consumes them.
    A replicated row that no gradient has touched may be missing on a rank; any rank begins it with the same value.
    """

    exchange: Exchange
    changes = 0  # inserts, erasures and evictions, which all ranks must make alike

    def __init__(
        self,
        create: Callable[[TableSpec], Storage],
        spec: TableSpec,
        names: tuple[str, ...],
        *,
        reduce_by_id: bool,
        each_rank_once: bool = False,
        shardings: Sequence[Sharding],
        precision: Precision,
        world: int,
        rank: int,
        residual_bytes: int,
    ) -> None:
        self.blocks = blocks = ColumnBlocks(spec, world, rank, cuts=shardings[0].kind == "column")
        super().__init__(create, blocks.spec, names, reduce_by_id=reduce_by_id)
        self.each_rank_once = each_rank_once  # the mean counts ranks, not occurrences
        self.shardings, self.precision, self.world = tuple(shardings), precision, world
        self.replicated = shardings[0].kind == "replicated"
        self.owners = Owners(self.shardings, spec.uids, world)
        self.dims, self.shares = blocks.dims, blocks.shares
        self.last_requests = LastRequests()
        self.sent_factor = 1.0
        self.consumed_at = 0
        self.local: list[LocalGradient] = []
        self._erasures_applied = 0  # their count at the last step
        self.to_rows, self.to_gradients = Chooser(precision.forward), Chooser(precision.backward)
        self.sends_exact = precision.backward.codecs == (Codec(),)
        keeps = precision.backward.error_feedback
        self.residuals = Residuals(self.backend, self.spec, self.row_dim, residual_bytes) if keeps else None
        self.hot = HotRows(self, shardings[0].hot_rows) if shardings[0].hot_rows else None
        if precision.forward.error_feedback:
            self._keep_forward_residual()

    def state_parts(self) -> dict[str, StatePart]:
        parts = super().state_parts() | {"codecs": CodecsPart(self)}
        return parts if self.residuals is None else parts | {"residual": ResidualPart(self.residuals)}

    def _keep_forward_residual(self) -> None:
        self.own_slots = (SlotSpec(FORWARD_RESIDUAL, self.spec.dim),)
        self.storage.add_slots(self.own_slots)

    def noise(self, ids: Tensor, ordinals: Tensor) -> RowNoise:
        """The noise of keys, at this step."""
        uids = torch.tensor(self.spec.uids, device=ids.device)[ordinals.long()]
        return RowNoise(self.spec.seed, uids, ids, self.step)

    # Backward

    def embed_grad(self, saved: SavedForward, grads: list[Tensor | None]) -> tuple[Any, list[Tensor | None]]:
        request, total, to_weights = saved.request, None, []
        rows = saved.rows if saved.rows is not None else self._like_rows(request)
        for (r, inverse), grad, need in zip(request.parts, grads, saved.weights_need_grad, strict=True):
            if grad is None:
                to_weights.append(torch.zeros(len(inverse), device=inverse.device) if need else None)
                continue
            by_row, of_weights = self.backend.pool_grad(
                grad, rows, inverse, r.offsets, r.weights,
                combiner=r.combiner, tile_len=r.tile_len, weights_need_grad=need,
            )  # fmt: skip
            total = by_row if total is None else total + by_row
            to_weights.append(of_weights)
        if not request.mode.insert:
            return None, to_weights
        return LocalGradient(request.keys, torch.zeros_like(rows) if total is None else total, saved.number), to_weights

    def _like_rows(self, request: KeyRequest) -> Tensor:
        """Rows without values: a gradient to rows alone never reads them."""
        return torch.empty(len(request.keys.ids), self.row_dim, device=request.keys.ids.device)

    def push(self, gradient: Any, ticket: Ticket) -> None:
        if gradient is None:
            return
        self.exchange.require_open()
        with self.lock:
            self.local = [*self.local, self._of_living(gradient, ticket)]
            if len(self.local) > KEPT and self.optimizer is None:
                self.local = [joined(self.local, self.backend, self.owners)]

    @property
    def waiting(self) -> int:
        return len(self.local)

    def _of_living(self, gradient: LocalGradient, ticket: Ticket) -> LocalGradient:
        if ticket.erasures == self.erasures.count:
            return gradient
        return self._left_of(gradient, self.erasures.gone(ticket.erasures, gradient.keys.ids, gradient.keys.ordinals))

    def _left_of(self, held: LocalGradient, gone: Tensor) -> LocalGradient:
        return held.without(gone, self.owners) if bool(gone.any()) else held

    @property
    def held(self) -> Any:
        return self.local

    @held.setter
    def held(self, held: Any) -> None:
        self.local = held

    # Rows of this rank

    @property
    def row_dim(self) -> int:
        return self.blocks.dim

    @property
    def columns(self) -> tuple[int, int]:
        return self.blocks.here

    def cut(self, rows: Tensor) -> Tensor:
        return self.blocks.cut(rows)

    def cut_slots(self, slots: tuple[SlotSpec, ...], optimizer: object) -> tuple[SlotSpec, ...]:
        return self.blocks.cut_slots(slots, optimizer, self.names)

    def slices(self, ordinal: int) -> tuple[int, int] | None:
        """Of replicated rows each rank saves those that it would own."""
        return (0, SLICES) if self.blocks.cuts else self.owners.slices_of(ordinal, self.exchange.channel.rank)

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
        """Rows that were looked up since the last step are pinned: any rank may still send their gradient."""
        return Clock(self.step, self.step)

    def local_gradient(self) -> LocalGradient | None:
        """Gradients of backwards here, summed by key; they stay until `drop_local`."""
        if len(self.local) > 1:
            self.local = [joined(self.local, self.backend, self.owners)]
        return self.local[0] if self.local else None

    def waiting_gradient(self) -> tuple[Tensor, Tensor, Tensor] | None:
        local = self.local_gradient()
        return None if local is None else (local.keys.ids, local.keys.ordinals, local.values)

    def drop_local(self) -> None:
        """The local gradient was sent."""
        self.local = []

    def receive(self, ids: Tensor, ordinals: Tensor, values: Tensor, counts: Tensor | None) -> None:
        """One rank's gradient of rows on this rank."""
        if not len(ids):
            return
        # A row that was erased since the last step is not made anew: its gradient is dropped, unless a forward made the row.
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
        """Gradients of rows on this rank, one for each rank that sent some."""
        return self.unapplied.gradients

    @property
    def scale(self) -> float:
        """Gradients are means over ranks, as DDP's; sent gradients may be unscaled already."""
        return 1.0 / (self.sent_factor if self.each_rank_once else self.world * self.sent_factor)

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
        finally:  # the rows are updated, even if residuals are not
            if self.hot is not None:
                self.hot.stale = bool(len(self.hot.ids)) or self.hot.stale
            self.discard()
            self._stepped()

    def discard(self) -> None:
        self.exchange.drop_in_flight()
        self.local, self.unapplied, self.sent_factor = [], self.unapplied.none(), 1.0
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
        """Drop local gradients and residuals of the rows. Where all ranks forget a table, its choices begin anew."""
        super().rows_went(keys)
        self.local = [self._left_of(h, keys.among(h.keys.ids, h.keys.ordinals)) for h in self.local]
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
        refused = torch.full((self.world, 1), int(refuses))
        theirs = self.exchange.channel.meet("load_state_dict", ("load", self.names, sorted(ordinals)), refused)
        return [int(rank) for rank in theirs[:, 0].nonzero().flatten()]

    def insert(self, snapshot: Snapshot) -> None:
        super().insert(snapshot)
        self._wrote()
        self.changes += self.replicated

    def erase(self, ids: Tensor, ordinal: int) -> None:
        super().erase(ids, ordinal)
        self.changes += self.replicated

    def evict(self, ordinals: Iterable[int] | None = None) -> dict[int, int]:
        """Ranks evict from a replicated table at the same step, so that they stay alike.

        Raises:
          RecisError: the table is replicated, and gradients may be on their way, which not all ranks know of.
        """
        if self.replicated and self.has_gradient:
            raise RecisError("evict rows of replicated tables after step() or zero_grad(), or before a forward.")
        self.changes += self.replicated
        return super().evict(ordinals)

    @property
    def touched_by_gradients(self) -> bool:
        """Whether the arrival of its gradient counts as a row's use, and a lookup does not.

        Gradients of replicated rows arrive on all ranks in the same step; of a lookup other ranks do not know.
        """
        return self.replicated and self.eviction is not None

    def forget(self, ids: Tensor, ordinals: Tensor) -> None:
        super().forget(ids, ordinals)
        self._wrote()

    def _wrote(self) -> None:
        """Rows changed on this rank: other ranks learn of it by their next forward."""
        if self.hot is not None:
            self.hot.written = True

    @as_one
    def accept_gradient(self, ids: Tensor, ordinal: int, rows: Tensor, values: Tensor) -> None:
        with self.lock:
            tables = torch.full((len(ids),), ordinal, dtype=torch.int32, device=ids.device)
            gradient = self.storage.gradient(ids, tables, rows, values)
            self.unapplied = self.unapplied.with_gradient(gradient, self.step)
