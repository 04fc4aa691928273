"""A backend whose tables choose which new ids get a row.

What is found is as without it. Of the others a lookup that inserts and touches admits some, which the inner backend
inserts; the rest have row -1, read as unknown, and have no gradient. A lookup that inserts without touching, as a
forward recomputed and a gradient's arrival are, only finds: it sees what the first one left.

Sizes: N ids, U unique keys.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recis_core.backends import Backend, Clock, LookupCall, LookupMode, Snapshot, TableSpec
from recis_core.backends.records import Evicted
from recis_core.table.admission.admission import Admission, admission_of
from recis_core.table.wrapped_backend import WrappedBackend

if TYPE_CHECKING:
    from recis_core.options.admit_hook import AdmitHook

FIND = LookupMode(insert=False, touch=False)


@dataclass
class AdmittingState:
    """The inner table, what the policy remembers, and how many keys it admitted and rejected, each once a call."""

    inner: Any
    policy: Admission
    counts: Counter[str] = field(default_factory=lambda: Counter(admitted=0, rejected=0))

    def stats(self) -> dict[str, int]:
        return {**self.counts, **self.policy.stats()}


class AdmittingBackend(WrappedBackend):
    """The stages of tables that admit as `hook` says."""

    inserts_unasked, takes_counts = False, True

    def __init__(self, inner: Backend, hook: AdmitHook) -> None:
        super().__init__(inner)
        self.hook = hook

    @property
    def counts_to(self) -> int | None:
        """How many of a key's occurrences it asks for; None: it counts none."""
        most: int | None = self.hook.params.get("threshold")
        return most

    def create(self, spec: TableSpec) -> AdmittingState:
        return AdmittingState(self.inner.create(spec), admission_of(self.hook, spec))

    def lookup(
        self,
        state: AdmittingState,
        ids: Tensor,
        tables: Tensor,
        *,
        mode: LookupMode,
        clock: Clock,
        counts: Tensor | None = None,
    ) -> tuple[AdmittingState, Tensor, Evicted | None]:
        """As Backend.lookup. counts: int32 [U], occurrences each key stands for; None is one each."""
        if not (mode.insert and mode.touch):
            return super().lookup(state, ids, tables, mode=_finding(mode), clock=clock)
        kept = self._admit(state, ids, tables, torch.ones_like(tables) if counts is None else counts, clock)
        if bool(kept.all()):
            return super().lookup(state, ids, tables, mode=mode, clock=clock)
        state, found, evicted = super().lookup(state, ids[kept], tables[kept], mode=mode, clock=clock)
        rows = torch.full_like(tables, -1)
        rows[kept] = found
        return state, rows, evicted

    def _admit(self, state: AdmittingState, ids: Tensor, tables: Tensor, counts: Tensor, clock: Clock) -> Tensor:
        """bool [U]: keys that have a row, and those that are to get one."""
        state.inner, rows, _ = self.inner.lookup(state.inner, ids, tables, mode=FIND, clock=clock)
        kept = rows >= 0
        new = (~kept).nonzero().flatten()
        if len(new):
            keys = ids[new].cpu(), tables[new].cpu()
            chosen = state.policy.admit(*keys, counts[new].cpu(), clock.step)
            state.policy.forget(*(x[chosen] for x in keys))
            kept[new] = chosen.to(kept.device)
            state.counts.update(admitted=int(chosen.sum()), rejected=int((~chosen).sum()))
        return kept

    def embed(
        self,
        state: AdmittingState,
        call: LookupCall,
        *,
        mode: LookupMode,
        clock: Clock,
        weights_need_grad: tuple[bool, ...],
    ) -> tuple[AdmittingState, list[Tensor], Any, Evicted | None]:
        evicted, inner_mode = None, _finding(mode)
        if mode.insert and mode.touch:
            p = self.inner.partition(state.inner, call.ids, tables_of(call))
            kept = self._admit(state, p.ids, p.tables, p.counts, clock)
            if bool(kept.all()):
                inner_mode = mode
            else:
                inner_mode, known = replace(inner_mode, touch=False), (p.ids[kept], p.tables[kept])
                state.inner, _, evicted = lookup_counted(
                    self.inner, state.inner, *known, p.counts[kept], mode=mode, clock=clock
                )
        state.inner, outputs, saved, lost = self.inner.embed(
            state.inner, call, mode=inner_mode, clock=clock, weights_need_grad=weights_need_grad
        )
        return state, outputs, saved, lost if evicted is None else evicted

    def gradient(
        self, state: Any, ids: Tensor, tables: Tensor, rows: Tensor, values: Tensor, counts: Tensor | None = None
    ) -> Any:
        """Of the keys that have a row."""
        known = rows >= 0
        if not bool(known.all()):
            ids, tables, rows, values = (x[known] for x in (ids, tables, rows, values))
            counts = None if counts is None else counts[known]
        return super().gradient(state, ids, tables, rows, values, counts)

    def restore(self, state: AdmittingState, snapshot: Snapshot) -> AdmittingState:
        """All of the snapshot's ids are admitted."""
        state.policy.forget(snapshot.ids, snapshot.tables)
        restored: AdmittingState = super().restore(state, snapshot)
        return restored


def _finding(mode: LookupMode) -> LookupMode:
    """The same without inserting."""
    return replace(mode, insert=False, learn=mode.learns)


def tables_of(call: LookupCall) -> Tensor:
    """The ordinal of each id, int32 [N]."""
    lengths = torch.tensor(call.lengths, dtype=torch.int64)
    return torch.tensor(call.ordinals, dtype=torch.int32).repeat_interleave(lengths).to(call.ids.device)


def lookup_counted(
    backend: Backend, state: Any, ids: Tensor, tables: Tensor, counts: Tensor | None, *, mode: LookupMode, clock: Clock
) -> tuple[Any, Tensor, Evicted | None]:
    """Backend.lookup of keys that occur `counts` times, for whom that matters to."""
    if isinstance(backend, WrappedBackend) and backend.takes_counts:
        return backend.lookup(state, ids, tables, mode=mode, clock=clock, counts=counts)  # type: ignore[call-arg]
    return backend.lookup(state, ids, tables, mode=mode, clock=clock)
