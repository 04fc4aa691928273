"""The JAX backend's stages, as backends.interface names them; each updates its state in place and returns it."""

from __future__ import annotations

import jax
import numpy as np
import torch
from torch import Tensor

from recis_core.backends.errors import BackendUnavailable
from recis_core.backends.jax_backend import codec as codec_
from recis_core.backends.jax_backend import embed_calls, export, lookup, pooling, reports
from recis_core.backends.jax_backend import gradients as gradients_
from recis_core.backends.jax_backend import slots as slots_
from recis_core.backends.jax_backend import state as states
from recis_core.backends.jax_backend.embed_calls import Saved
from recis_core.backends.jax_backend.gradient import KeyedGradient
from recis_core.backends.jax_backend.inputs import Crossing
from recis_core.backends.jax_backend.ladder import rung
from recis_core.backends.jax_backend.loops import Loops
from recis_core.backends.jax_backend.programs import Programs
from recis_core.backends.jax_backend.state import TableState
from recis_core.backends.jax_backend.unfinished import finish, land, whole
from recis_core.backends.jax_backend.xla_loops import XLA_LOOPS
from recis_core.backends.records import EncodedRows, Evicted, LookupCall, Marks, Partition, RowNoise, Snapshot
from recis_core.backends.row_checks import check_rows
from recis_core.backends.spec import Clock, Counters, LookupMode, RowCodec, SlotSpec, TableSpec, UpdateRule
from recis_core.backends.step_numbers import step_numbers
from recis_core.bridge.dlpack import ids_to_torch, to_torch


class JaxBackend:
    """Every stage in XLA programs; `loops` are those that cost the most."""

    name = "jax"

    renumber = staticmethod(gradients_.renumbered)

    def __init__(self, loops: Loops = XLA_LOOPS) -> None:
        self._programs = Programs(loops)

    def create(self, spec: TableSpec) -> TableState:
        return states.create_state(spec, device_of(spec.device, self.name))

    def add_slots(self, state: TableState, slots: tuple[SlotSpec, ...]) -> TableState:
        finish(self._programs, state)
        states.add_slots(state, slots)
        return state

    def partition(self, state: TableState, ids: Tensor, tables: Tensor) -> Partition:
        size, crossing = rung(len(ids)), Crossing()
        keys = crossing.words(ids, size), crossing.array(tables, size, torch.int32)
        unique = self._programs.partition(*keys, np.int32(len(ids)), state.constants)
        crossing.done(unique)
        count = int(unique.count)
        return Partition(
            ids_to_torch(unique.ids)[:count],
            to_torch(unique.ordinals)[:count],
            to_torch(unique.inverse)[: len(ids)],
            to_torch(unique.counts)[:count],
            to_torch(unique.slices)[:count],
        )

    def lookup(
        self, state: TableState, ids: Tensor, tables: Tensor, *, mode: LookupMode, clock: Clock
    ) -> tuple[TableState, Tensor, Evicted | None]:
        return state, *lookup.lookup(self._programs, state, ids, tables, mode, clock)

    def gather(self, state: TableState, rows: Tensor, ids: Tensor, tables: Tensor, *, unknown: str = "zeros") -> Tensor:
        finish(self._programs, state)
        size, crossing = rung(len(rows)), Crossing()
        numbers = crossing.array(rows, size, torch.int32, fill=-1)
        keys = crossing.words(ids, size), crossing.array(tables, size, torch.int32)
        values = self._programs.gather(
            state.weights, numbers, *keys, state.constants, unknown_initial=unknown == "initial"
        )
        crossing.done(values)
        return to_torch(values)[: len(rows)]

    def pool(
        self,
        rows: Tensor,
        inverse: Tensor,
        offsets: Tensor,
        weights: Tensor | None = None,
        *,
        combiner: str = "sum",
        tile_len: int | None = None,
    ) -> Tensor:
        return pooling.pool(self._programs, rows, inverse, offsets, weights, combiner, tile_len)

    def pool_grad(
        self,
        grad: Tensor,
        rows: Tensor,
        inverse: Tensor,
        offsets: Tensor,
        weights: Tensor | None = None,
        *,
        combiner: str = "sum",
        tile_len: int | None = None,
        weights_need_grad: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        return pooling.pool_grad(
            self._programs, grad, rows, inverse, offsets, weights, combiner, tile_len, weights_need_grad
        )

    def embed(
        self,
        state: TableState,
        call: LookupCall,
        *,
        mode: LookupMode,
        clock: Clock,
        weights_need_grad: tuple[bool, ...],
    ) -> tuple[TableState, list[Tensor], Saved, Evicted | None]:
        return state, *embed_calls.embed(self._programs, state, call, mode, clock, weights_need_grad)

    def embed_grad(self, saved: Saved, grads: list[Tensor | None]) -> tuple[KeyedGradient | None, list[Tensor | None]]:
        return embed_calls.embed_grad(self._programs, saved, grads)

    def gradient(
        self,
        state: TableState,
        ids: Tensor,
        tables: Tensor,
        rows: Tensor,
        values: Tensor,
        counts: Tensor | None = None,
    ) -> KeyedGradient:
        return gradients_.from_keys(ids, tables, rows, values, torch.ones_like(tables) if counts is None else counts)

    def combine(self, gradients: list[KeyedGradient], *, mean: bool = False) -> KeyedGradient:
        return gradients_.combine(self._programs, gradients, mean)

    def read_gradient(self, gradient: KeyedGradient) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return gradients_.read(self._programs, gradient)

    def without(self, gradient: KeyedGradient, gone: Tensor) -> KeyedGradient:
        return gradients_.without(self._programs, gradient, gone)

    def measure(self, gradient: KeyedGradient) -> tuple[Tensor, Tensor]:
        return gradients_.measure(self._programs, gradient)

    def update(
        self,
        state: TableState,
        gradient: KeyedGradient,
        rule: UpdateRule,
        *,
        hyper: np.ndarray,
        factor: float,
        t: tuple[int, ...],
    ) -> TableState:
        step = step_numbers(rule, hyper, factor, len(state.spec.uids))
        if step.ahead is not None:
            gradient = gradient._replace(values=gradient.values * step.ahead)
        with whole(self._programs, state):
            slots = tuple(state.slots[name] for name in rule.slots)
            numbers = step.hyper, step.factor, np.array(t, np.int32)
            state.landing = rule.slots
            state.weights, state.landed = self._programs.update(
                state.weights, slots, gradient, state.constants, *numbers, rule=rule
            )
            land(state)
        return state

    def read_rows(self, state: TableState, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        finish(self._programs, state)
        return slots_.read_all(self._programs, state, rows)

    def write_rows(self, state: TableState, rows: Tensor, weights: Tensor, slots: dict[str, Tensor]) -> TableState:
        check_rows(state.spec, state.slot_specs, rows, weights, slots)
        with whole(self._programs, state):
            slots_.write_all(self._programs, state, rows, weights, slots)
        return state

    def read_slot(self, state: TableState, name: str, rows: Tensor) -> Tensor:
        finish(self._programs, state)
        return slots_.read(self._programs, state, name, rows)

    def write_slot(self, state: TableState, name: str, rows: Tensor, values: Tensor) -> TableState:
        with whole(self._programs, state):
            slots_.write(self._programs, state, name, rows, values)
        return state

    def encode(
        self,
        values: Tensor,
        residual: Tensor | None = None,
        *,
        codec: RowCodec,
        noise: RowNoise | None = None,
    ) -> EncodedRows:
        return codec_.encode(self._programs, values, residual, codec, noise)

    def decode(self, codes: Tensor, *, codec: RowCodec, dim: int, tail: Tensor | None = None) -> Tensor:
        return codec_.decode(self._programs, codes, codec, dim, tail)

    def pack_ids(self, ids: Tensor) -> Tensor:
        return codec_.pack_ids(self._programs, ids)

    def unpack_ids(self, packed: Tensor, count: int) -> Tensor:
        return codec_.unpack_ids(self._programs, packed, count)

    def select_rows(self, values: Tensor, k: int) -> Tensor:
        return codec_.select_rows(self._programs, values, k)

    def erase(self, state: TableState, ids: Tensor, tables: Tensor) -> TableState:
        lookup.erase(self._programs, state, ids, tables)
        return state

    def marks(self, state: TableState) -> Marks:
        return export.marks(self._programs, state)

    def keys_from(self, state: TableState, start: int, most: int) -> tuple[Tensor, Tensor, Tensor, int]:
        return export.keys_from(self._programs, state, start, most)

    def rows_by_table(self, state: TableState) -> tuple[int, ...]:
        finish(self._programs, state)
        return reports.rows_by_table(state, self._programs)

    def export(self, state: TableState) -> Snapshot:
        return export.export(self._programs, state)

    def restore(self, state: TableState, snapshot: Snapshot) -> TableState:
        export.restore(self._programs, state, snapshot)
        return state

    def counters(self, state: TableState) -> Counters:
        finish(self._programs, state)
        return reports.counters(state)

    def programs(self) -> int:
        return self._programs.compiled.total()


def device_of(name: str, backend: str) -> jax.Device:
    """The JAX device torch calls `name`."""
    device = torch.device(name)
    platform = {"cpu": "cpu", "cuda": "gpu"}.get(device.type)
    if platform == "cpu":
        return jax.local_devices(backend="cpu")[0]
    seen = [d for d in jax.local_devices() if d.platform == platform]
    if (device.index or 0) >= len(seen):
        raise BackendUnavailable(
            f"device={name!r} needs a device that JAX can see; jax.local_devices() gives {jax.local_devices()}. "
            f"Use device='cpu', install jax[cuda13], or leave RECIS_BACKEND={backend} for torch."
        )
    return seen[device.index or 0]
