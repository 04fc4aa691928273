"""The JAX backend's stages, as backends.interface names them; each updates its state in place and returns it."""

from __future__ import annotations

from functools import partial

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
from recis_core.backends.jax_backend.gradient import KeyedGradient
from recis_core.backends.jax_backend.inputs import Crossing
from recis_core.backends.jax_backend.ladder import rung
from recis_core.backends.jax_backend.loops import Loops
from recis_core.backends.jax_backend.programs import Programs
from recis_core.backends.jax_backend.state import TableState
from recis_core.backends.jax_backend.unfinished import finish, land, whole
from recis_core.backends.jax_backend.xla_loops import XLA_LOOPS
from recis_core.backends.records import Partition, Snapshot
from recis_core.backends.row_checks import check_rows
from recis_core.backends.spec import Counters, SlotSpec, TableSpec, UpdateRule
from recis_core.backends.step_numbers import step_numbers
from recis_core.bridge.dlpack import ids_to_torch, to_torch


class JaxBackend:
    """Every stage in XLA programs; `loops` are those that cost the most."""

    name = "jax"

    gradient = staticmethod(gradients_.from_keys)
    renumber = staticmethod(gradients_.renumbered)

    def __init__(self, loops: Loops = XLA_LOOPS) -> None:
        self._programs = programs = Programs(loops)

        self.lookup = partial(lookup.lookup, programs)
        self.embed = partial(embed_calls.embed, programs)
        self.embed_grad = partial(embed_calls.embed_grad, programs)
        self.pool = partial(pooling.pool, programs)
        self.pool_grad = partial(pooling.pool_grad, programs)

        self.combine = partial(gradients_.combine, programs)
        self.read_gradient = partial(gradients_.read, programs)
        self.without = partial(gradients_.without, programs)
        self.measure = partial(gradients_.measure, programs)

        self.encode = partial(codec_.encode, programs)
        self.decode = partial(codec_.decode, programs)
        self.pack_ids = partial(codec_.pack_ids, programs)
        self.unpack_ids = partial(codec_.unpack_ids, programs)
        self.select_rows = partial(codec_.select_rows, programs)

        self.erase = partial(lookup.erase, programs)
        self.marks = partial(export.marks, programs)
        self.keys_from = partial(export.keys_from, programs)
        self.export = partial(export.export, programs)
        self.export_parts = partial(export.export_parts, programs)
        self.export_later = partial(export.export_later, programs)

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

    def rows_by_table(self, state: TableState) -> tuple[int, ...]:
        finish(self._programs, state)
        return reports.rows_by_table(state, self._programs)

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
