"""One engine's tables on many ranks: forwards, gradients, norms. Ranks agree first, then send, in the order of the plan.

Sizes: W ranks, P storages.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recis_core.backends.errors import RecisError
from recis_core.backends.records import EncodedRows
from recis_core.channel.channel import Channel
from recis_core.exchange import forward, gradients, hot_rows
from recis_core.exchange.hot_rows import HotRows
from recis_core.exchange.sharded_table import ShardedTable
from recis_core.exchange.unsent import unsent
from recis_core.table.table import Table
from recis_core.table.ticket import Ticket
from recis_core.table.unapplied import Carried, Measure

NORM = 5  # words of a table when ranks agree on norms: Σ squares, and two a direction of codec errors
JOBS = 2  # lookups of one storage in one forward: those that insert, and those that only find


class Exchange:
    """Of one engine. Making one is collective.

    Args:
      overlap: send gradients from inside backward, so that they travel while the rest of the step goes on.

    Raises:
      ExchangeMismatch: ranks have other tables, options or versions.
      ValueError: overlap with error feedback.
    """

    def __init__(self, channel: Channel, tables: Sequence[ShardedTable], *, overlap: bool = False) -> None:
        self.channel, self.tables, self.overlap = channel, list(tables), overlap
        if overlap and any(t.residuals is not None for t in tables):
            raise ValueError(
                "overlap=True sends in backward, before a step is known to be applied; drop +ef or overlap."
            )
        plan = [_plan(table) for table in tables]
        channel.meet("plan", (plan, overlap))
        channel.open_engine(_width(self.tables))
        self.forwards = 0  # training forwards so far
        self.synced_at = 0
        self.dense_finite: Callable[[], bool] = lambda: True
        self.clamped = self.exact_rows = 0
        self._measures: dict[ShardedTable, Measure] = {}
        self._flags: tuple[int, tuple[bool, bool, bool]] | None = None
        self._finite = True
        self._waiting: Callable[[], None] | None = None
        self._counts_on = True
        for table in self.tables:
            table.exchange = self

    def embed(
        self, jobs: Sequence[Any], needs: Sequence[tuple[bool, ...]]
    ) -> list[tuple[list[Tensor], object, Ticket]]:
        """For each job what PhysicalTable.embed returns. Collective."""
        return forward.embed(self, jobs, needs)

    @property
    def hot(self) -> list[HotRows]:
        """Of tables that have hot rows."""
        return [table.hot for table in self.tables if table.hot is not None]

    def open_forward(self, trains: bool) -> None:
        self.finish()
        if trains and self.overlap and any(t.consumed_at < self.synced_at for t in self.tables):
            raise RecisError(
                "overlap=True sends gradients in every backward; a second forward came before step() or zero_grad(). "
                "Accumulate without overlap: gradients then travel once a step."
            )
        if self._counts_on:
            self._count_on()
        if self.hot:
            hot_rows.refresh(self, trains)

    def _count_on(self) -> None:
        """Before the first forward: kept disks of ranks may be of different flushes; all ranks take the latest one's steps."""
        kept = [table for table in self.tables if (tiers := table.storage.tiers) is not None and tiers.config.keep]
        if kept:
            with self.channel.failing_together("forward"):  # the forward that opens them
                steps = torch.tensor([table.step for table in kept])
            theirs = self.channel.meet("forward", counts=steps.expand(self.channel.size, -1))
            for table, step in zip(kept, theirs.amax(0).tolist(), strict=True):
                table.step = step
        self._counts_on = False

    def sync(self) -> None:
        """Gradients of all tables to their owners. Collective where a training forward came since the last one."""
        if self.synced_at != self.forwards:
            self._send_gradients()
        self.finish()

    def pushed(self) -> None:
        """A backward has left its gradients here."""
        if self.overlap:
            self._send_gradients()

    def _send_gradients(self) -> None:
        """Local gradients stay until all ranks have agreed to send theirs."""
        with self.channel.failing_together("sync"):
            for table in self.tables:
                table.sent_factor = _unscaling(table)
        agreed = self._agree("sync")
        if not self.overlap:  # which sends in backward, when dense gradients are not there yet
            self._flags = self.forwards, agreed
        finite = agreed[1]
        if finite:
            self._waiting = gradients.send(self)
            for table in self.tables:
                table.drop_local()
        self._finite, self.synced_at = finite, self.forwards
        self._measures.clear()

    def finish(self) -> None:
        """Wait for gradients that are under way. If that fails, it fails on all ranks, and may be repeated."""
        if self._waiting is not None:
            with self.channel.failing_together("gradients"):
                self._waiting()
            self._waiting = None

    def drop_in_flight(self) -> None:
        """Receive what is under way as far as possible: the caller drops all gradients."""
        if self._waiting is not None:
            with suppress(Exception):  # then no table has received any
                self._waiting()
            self._waiting = None

    def require_open(self) -> None:
        """Raises RecisError if this step's gradients have been sent."""
        if self.synced_at == self.forwards:
            raise RecisError(
                "backward came after this step's gradients were exchanged (by unscale, clip, step or sync_gradients), "
                "so its own would be lost. Run all backwards first, or another forward before this one."
            )

    def flags(self) -> tuple[bool, bool]:
        """(whether any rank holds a gradient, whether all are finite, dense ones too); equal on all ranks.

        Collective, unless an earlier call since the last training forward found a gradient. "Yes" is cached; "no" is
        asked again, for a backward may still come.
        """
        self.finish()  # gradients that were sent count on their owners
        if self._flags is None or self._flags[0] != self.forwards or not self._flags[1][0]:
            self._flags = self.forwards, self._agree("flags")
        holds, sparse_finite, dense_finite = self._flags[1]
        return holds, sparse_finite and dense_finite

    def _agree(self, kind: str) -> tuple[bool, bool, bool]:
        with self.channel.failing_together(kind):
            holds = any(table.local or table.received for table in self.tables)
            finite = all(gradient.finite for table in self.tables for gradient in table.local)
            mine = torch.tensor([holds, finite, self.dense_finite()]).long()
        theirs = self.channel.meet(kind, self.position(), mine.expand(self.channel.size, 3), here=self.where)
        return bool(theirs[:, 0].any()), bool(theirs[:, 1].all()), bool(theirs[:, 2].all())

    def position(self) -> list[tuple[object, ...]]:
        """Of each table, equal on all ranks: its step, which forward's keys owners know, whether gradients wait at owners."""
        return [(t.step, t.last_requests.number, t.consumed_at < self.synced_at, t.changes) for t in self.tables]

    def where(self) -> str:
        """`position` in words."""
        steps = ", ".join(f"{'/'.join(t.names[:3])} at step {t.step}" for t in self.tables[:3])
        waits = any(t.consumed_at < self.synced_at for t in self.tables)
        changed = "".join(f"; {t.names[0]}, replicated, changed {t.changes} times" for t in self.tables if t.changes)
        return f"Here: {steps}{changed}{'; gradients of an earlier forward are neither applied nor dropped' * waits}."

    def agree_to_step(self) -> None:
        """A step without a gradient needs no other rank; still all ranks make it, or none. Collective."""
        self.finish()
        if not self._measures:
            self.channel.meet("step", self.position(), here=self.where)

    def measure(self, table: ShardedTable, kind: str = "norm") -> Measure:
        """Σ squares and finiteness over all ranks, float64 sums in the order of ranks. Collective at first.

        kind: "norm" for a step, or "clip": ranks must agree on that, too.
        """
        if not self._measures:
            self._measures = self._measured(kind)
        return self._measures[table]

    def _measured(self, kind: str) -> dict[ShardedTable, Measure]:
        with self.channel.failing_together(kind):
            local = [t.local_measure() for t in self.tables]
            mine = [x for t, m in zip(self.tables, local, strict=True) for x in (m.sum_of_squares, *_errors(t))]
        words = torch.tensor([_bits(x) for x in mine])
        lines = self.channel.meet(kind, self.position(), words.expand(self.channel.size, -1), here=self.where).tolist()
        ranks = [[_float(word) for word in line] for line in lines]
        return {
            table: self._of_ranks(table, [line[NORM * i : NORM * (i + 1)] for line in ranks])
            for i, table in enumerate(self.tables)
        }

    def _of_ranks(self, table: ShardedTable, ranks: list[list[float]]) -> Measure:
        """One table's measure, from squares and errors of each rank."""
        squares, rows_lost, rows, gradients_lost, gradients_ = zip(*ranks, strict=True)
        table.to_rows.observe(table.step, rows_lost, rows)
        table.to_gradients.observe(table.step, gradients_lost, gradients_)
        total = squares[0] if table.replicated else sum(squares)
        return Measure(total, True) if self._finite and math.isfinite(total) else Measure(math.inf, False)

    def forget(self) -> None:
        """A table's gradient was applied or dropped: measures and flags are out of date."""
        self._measures.clear()
        self._flags = None

    def count(self, encoded: EncodedRows) -> None:
        self.clamped += int(encoded.clamped)
        self.exact_rows += len(encoded.exact)

    def unsent(self) -> dict[Table, Carried]:
        """See exchange_interface."""
        senders = [table for table in self.tables if table.residuals is not None]
        return dict(zip(senders, unsent(self, senders), strict=True))

    def stats(self) -> dict[str, int]:
        """Bytes sent to other ranks so far, by kind; values clamped before a cast; rows that travelled exact."""
        return {**self.channel.sent, "clamped": self.clamped, "exact_rows": self.exact_rows}


def _plan(table: ShardedTable) -> tuple[object, ...]:
    """What ranks must have alike."""
    spec = replace(table.spec, dim=table.row_dim, first_column=0)
    hooks = str(getattr(table.storage.gate, "hook", None)), str(getattr(table.eviction, "hook", None))
    return table.names, spec, table.backend.name, table.shardings, str(table.precision), _reduced_by(table), hooks


def _reduced_by(table: ShardedTable) -> str:
    return "rank" if table.each_rank_once else "id" if table.reduce_by_id else "worker"


def _errors(table: ShardedTable) -> tuple[float, float, float, float]:
    return *table.to_rows.take(), *table.to_gradients.take()


def _width(tables: Sequence[ShardedTable]) -> int:
    return max(
        sum(JOBS * (len(t.names) + 1) for t in tables) + 1,  # whether hot rows were written
        sum(gradients.COUNTS + len(t.names) for t in tables),
        2 * JOBS * len(tables),
        NORM * len(tables),
        3,
    )


def _unscaling(table: ShardedTable) -> float:
    """The factor to apply before encoding (unscaling, clipping). 1 for exact codecs, where applying it afterwards is the
    same."""
    if table.sends_exact or table.optimizer is None:
        return 1.0
    return float(table.optimizer.unscaling(table))


def _bits(value: float) -> int:
    return struct.unpack("<q", struct.pack("<d", value))[0]


def _float(bits: int) -> float:
    return struct.unpack("<d", struct.pack("<q", bits))[0]
