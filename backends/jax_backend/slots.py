"""Rows by number, read and overwritten: one slot of them, or all they hold.

Sizes: U rows, R rows of the table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends.jax_backend.inputs import Crossing
from recis_core.backends.jax_backend.ladder import rung
from recis_core.backends.jax_backend.programs import Programs
from recis_core.backends.jax_backend.state import WEIGHTS, TableState
from recis_core.backends.jax_backend.unfinished import land
from recis_core.bridge.dlpack import to_torch


def read(programs: Programs, state: TableState, name: str, rows: Tensor) -> Tensor:
    size, crossing = rung(len(rows)), Crossing()
    numbers = crossing.array(rows, size, torch.int32, fill=-1)
    (values,) = programs.read_rows((state.slots[name],), numbers)
    crossing.done(values)
    read = to_torch(values)[: len(rows)]
    return torch.where((rows >= 0)[:, None], read, 0.0)


def write(programs: Programs, state: TableState, name: str, rows: Tensor, values: Tensor) -> None:
    size, crossing = rung(len(rows)), Crossing()
    past = state.slots[name].shape[0]
    numbers = crossing.array(torch.where(rows >= 0, rows, past), size, torch.int32, fill=past)
    given = crossing.array(values, size, torch.float32)
    state.landing = (name,)
    state.landed = programs.write_rows((state.slots[name],), numbers, (given,))
    land(state)
    crossing.done(state.slots[name])


def read_all(programs: Programs, state: TableState, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    crossing = Crossing()
    numbers = crossing.array(rows, rung(len(rows)), torch.int32)
    weights, *slots = programs.read_rows((state.weights, *state.slot_arrays), numbers)
    crossing.done(weights)
    read = {name: to_torch(values)[: len(rows)] for name, values in zip(state.slots, slots, strict=True)}
    return to_torch(weights)[: len(rows)], read


def write_all(programs: Programs, state: TableState, rows: Tensor, weights: Tensor, slots: dict[str, Tensor]) -> None:
    size, crossing = rung(len(rows)), Crossing()
    numbers = crossing.array(rows, size, torch.int32, fill=state.weights.shape[0])
    given = tuple(crossing.array(values, size) for values in (weights, *(slots[name] for name in state.slots)))
    state.landing = (WEIGHTS, *state.slots)
    state.landed = programs.write_rows((state.weights, *state.slot_arrays), numbers, given)
    land(state)
    crossing.done(state.weights)
