"""A storage larger than its device: a backend's stages over rows that come and go.

A call's keys are brought to the device first, and rows of lower score leave for them; then the backend embeds as if the
whole table were there. Keys of a call without room on the device are read where their rows are. Gradients are by key; a row
that left before its update is updated below the device.

Sizes: N ids, U unique keys, n keys of a call, D dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import (
    Backend,
    Clock,
    Counters,
    LookupCall,
    LookupMode,
    SlotSpec,
    Snapshot,
    TableSpec,
    UpdateRule,
)
from recis_core.backends.interface import Gradient, State
from recis_core.backends.records import Evicted, Marks, Partition
from recis_core.options.cache_config import CacheConfig
from recis_core.table.content import Content
from recis_core.table.tiers.overflow_table import change, slot_of
from recis_core.table.tiers.replacing import content_in_tiers
from recis_core.table.tiers.tier_snapshot import export, marks, rows_of, snapshots
from recis_core.table.tiers.tiered_call import ELSEWHERE, embedded, looked_up
from recis_core.table.tiers.tiered_state import KeyArrays, TieredState
from recis_core.table.tiers.walk import walk

Apply = Callable[[State, Gradient], State]


@dataclass(frozen=True)
class Saved:
    """What the backend saved of a forward; `numbering` is the device's by then, None off the device."""

    inner: Any
    state: TieredState
    numbering: int | None


@dataclass(frozen=True)
class TieredGradient:
    """A gradient by key. Its row numbers are the device's as long as that has not numbered its rows anew."""

    inner: Any
    state: TieredState
    numbering: int | None

    @property
    def placed(self) -> bool:
        return self.numbering == self.state.renumbered


class TieredStorage:
    """Of one table, in tiers as `config` says. owner: who it is on a disk shared by tables and ranks."""

    gate = None

    def __init__(self, backend: Backend, config: CacheConfig, owner: str, spec: TableSpec) -> None:
        self.backend, self.tiers = backend, TieredState(backend, spec, config, owner)

    @property
    def state(self) -> TieredState:
        return self.tiers

    def steps(self) -> int:
        return self.tiers.steps_on_disk()

    def content(self, ordinals: set[int], slots: tuple[SlotSpec, ...], room: int = 0) -> Content:
        return content_in_tiers(self, ordinals)

    def add_slots(self, slots: tuple[SlotSpec, ...]) -> None:
        with self.tiers.lock:
            self.tiers.add_slots(slots)

    def partition(self, ids: Tensor, tables: Tensor) -> Partition:
        return self.backend.partition(self.tiers.device.state, ids, tables)

    def lookup(
        self, ids: Tensor, tables: Tensor, *, mode: LookupMode, clock: Clock, counts: Tensor | None = None
    ) -> tuple[Tensor, Evicted | None]:
        """Rows on the device by their number there; others known by ELSEWHERE and up, until the next lookup."""
        state, keys = self.tiers, (_numpy(ids), _numpy(tables))
        with state.lock:
            state.starts(clock)
            times = np.ones(len(ids), np.int32) if counts is None else _numpy(counts)
            rows = looked_up(state, *keys, times, mode)
        return torch.from_numpy(rows).to(ids.device), None

    def gather(self, rows: Tensor, ids: Tensor, tables: Tensor, *, unknown: str = "zeros") -> Tensor:
        """By key: since `rows` were given, a Prefetcher's thread may have moved them."""
        state, keys, known = self.tiers, (_numpy(ids), _numpy(tables)), _numpy(rows) != -1
        with state.lock:
            here = np.where(known, state.device.find(*keys), np.int32(-1))
            at = torch.from_numpy(here).to(rows.device)
            values = self.backend.gather(state.device.state, at, ids, tables, unknown=unknown)
            away = np.flatnonzero(known & (here < 0))
            if not len(away):
                return values
            fetched = state.lower.read(keys[0][away], keys[1][away])
        at = torch.from_numpy(away[fetched.found]).to(values.device)
        values[at] = fetched.rows.weights.float().to(values.device)
        return values

    def embed(
        self, call: LookupCall, *, mode: LookupMode, clock: Clock, weights_need_grad: tuple[bool, ...]
    ) -> tuple[list[Tensor], Saved, Evicted | None]:
        state = self.tiers
        with state.lock:
            state.starts(clock)
            outputs, inner, numbering = embedded(
                state, call, mode=mode, clock=clock, weights_need_grad=weights_need_grad
            )
        return outputs, Saved(inner, state, numbering), None

    def embed_grad(self, saved: Saved, grads: list[Tensor | None]) -> tuple[Any, list[Tensor | None]]:
        gradient, to_weights = self.backend.embed_grad(saved.inner, grads)
        return None if gradient is None else TieredGradient(gradient, saved.state, saved.numbering), to_weights

    def gradient(
        self, ids: Tensor, tables: Tensor, rows: Tensor, values: Tensor, counts: Tensor | None = None
    ) -> TieredGradient:
        state = self.tiers
        inner = self.backend.gradient(state.device.state, ids, tables, rows, values, counts)
        return TieredGradient(inner, state, None if bool((rows >= ELSEWHERE).any()) else state.renumbered)

    def combine(self, gradients: list[TieredGradient], *, mean: bool = False) -> TieredGradient:
        state, inner = gradients[0].state, [g.inner for g in gradients]
        placed = all(g.placed for g in gradients)
        if not placed and len(gradients) > 1:
            inner = self._numbered_alike(inner)
        return TieredGradient(self.backend.combine(inner, mean=mean), state, state.renumbered if placed else None)

    def _numbered_alike(self, gradients: Sequence[Any]) -> list[Any]:
        """One row number a key, whatever the keys' rows were when each gradient was made; -1 stays -1."""
        read = [self.backend.read_gradient(g)[:3] for g in gradients]
        ids, tables, rows = (torch.cat([r[k].cpu() for r in read]) for k in range(3))
        _, numbers = torch.unique(torch.stack([tables.long(), ids]), dim=1, return_inverse=True)
        numbers = torch.where(rows < 0, -1, numbers.int())
        parts = numbers.split([len(r[0]) for r in read])
        return [
            self.backend.renumber(g, part.to(r[0].device)) for g, part, r in zip(gradients, parts, read, strict=True)
        ]

    def read_gradient(self, gradient: TieredGradient) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.backend.read_gradient(gradient.inner)

    def without(self, gradient: TieredGradient, gone: Tensor) -> TieredGradient:
        return TieredGradient(self.backend.without(gradient.inner, gone), gradient.state, gradient.numbering)

    def measure(self, gradient: TieredGradient) -> tuple[Tensor, Tensor]:
        return self.backend.measure(gradient.inner)

    def update(
        self, gradient: TieredGradient, rule: UpdateRule, *, hyper: np.ndarray, factor: float, t: tuple[int, ...]
    ) -> None:
        state = self.tiers

        def apply(table: State, by: Gradient) -> State:
            return self.backend.update(table, by, rule, hyper=hyper, factor=factor, t=t)

        with state.lock:
            ids, tables, rows = (_numpy(x) for x in self.backend.read_gradient(gradient.inner)[:3])
            if gradient.placed:
                state.device.changed(rows[rows >= 0])  # first: what is interrupted is written back too
                state.device.state = apply(state.device.state, gradient.inner)
            else:
                self._update_away(gradient.inner, (ids, tables), rows >= 0, apply)
            state.updated()

    def _update_away(self, gradient: Gradient, keys: KeyArrays, known: np.ndarray, apply: Apply) -> None:
        """The rows that are on the device there, the others below it."""
        state, device = self.tiers, self.tiers.device.device
        here = np.where(known, state.device.find(*keys), -1)
        away = np.flatnonzero(known & (here < 0))

        def change_below(table: State, numbers: Tensor) -> State:
            rows = torch.full((len(known),), -1, dtype=torch.int32, device=device)
            rows[torch.from_numpy(away).to(device)] = numbers
            return apply(table, self.backend.renumber(gradient, rows))

        there = self.backend.renumber(gradient, torch.from_numpy(here).to(device))
        below = keys[0][away], keys[1][away]
        change(state, below, change_below, here[here >= 0], lambda table: apply(table, there))

    def read_slot(self, name: str, rows: Tensor) -> Tensor:
        state = self.tiers
        with state.lock:
            away = rows >= ELSEWHERE
            values = self.backend.read_slot(state.device.state, name, torch.where(away, -1, rows))
            if bool(away.any()):
                values[away] = slot_of(state.lower, name, *self._elsewhere(rows[away])).to(values.device)
        return values

    def write_slot(self, name: str, rows: Tensor, values: Tensor) -> None:
        state = self.tiers
        with state.lock:
            away = rows >= ELSEWHERE
            here = torch.where(away, -1, rows)
            there = values[away].float().to(state.device.device)
            change(
                state,
                self._elsewhere(rows[away]),
                lambda table, numbers: self.backend.write_slot(table, name, numbers, there),
                _numpy(here[here >= 0]),
                lambda table: self.backend.write_slot(table, name, here, values),
            )

    def _elsewhere(self, rows: Tensor) -> KeyArrays:
        """Keys of the last lookup by their numbers there."""
        ids, tables = self.tiers.elsewhere
        which = _numpy(rows) - ELSEWHERE
        return ids[which], tables[which]

    def erase(self, ids: Tensor, tables: Tensor) -> None:
        with self.tiers.lock:
            self.tiers.erase(_numpy(ids), _numpy(tables))

    def marks(self) -> Marks:
        """Of all tiers; rows that are not on the device have numbers as those of a lookup."""
        state = self.tiers
        with state.lock:
            found, away = marks(state.device, state.lower)
            state.elsewhere = found.ids.numpy()[away], found.tables.numpy()[away]
        found.rows[torch.from_numpy(away)] = ELSEWHERE + torch.arange(int(away.sum()), dtype=torch.int32)
        return found

    def pieces(self, ordinal: int, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        return walk(self.tiers.lock, self.tiers.device, self.tiers.lower, ordinal, most)

    def layout(self) -> tuple[int, ...]:
        return self.tiers.layout

    def rows_by_table(self) -> tuple[int, ...]:
        with self.tiers.lock:
            return tuple(self.tiers.rows_by_table().tolist())

    def export(self) -> Snapshot:
        with self.tiers.lock:
            return export(self.tiers.device, self.tiers.lower)

    def snapshots(self, most: int) -> Iterator[Snapshot]:
        with self.tiers.lock:
            yield from snapshots(self.tiers.device, self.tiers.lower, most)

    def snapshots_later(self) -> Iterator[Snapshot]:
        raise NotImplementedError("rows in tiers are written before training goes on: see `snapshots`.")

    def rows_of(self, ids: Tensor, tables: Tensor, *, marks: bool) -> Snapshot:
        with self.tiers.lock:
            return rows_of(self.tiers.device, self.tiers.lower, _numpy(ids), _numpy(tables))

    def restore(self, snapshot: Snapshot) -> None:
        with self.tiers.lock:
            self.tiers.restore(snapshot)

    def counters(self) -> Counters:
        with self.tiers.lock:
            return self.tiers.counters()

    def stats(self) -> dict[str, int]:
        return self.tiers.summary()


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().contiguous().numpy()
