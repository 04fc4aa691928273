"""One slot of rows by number, read and overwritten.

Sizes: U rows, R rows of the table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from backends.jax_backend.inputs import Crossing
from backends.jax_backend.ladder import rung
from backends.jax_backend.programs import Programs
from backends.jax_backend.state import TableState
from bridge.dlpack import to_torch


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
    (state.slots[name],) = programs.write_rows((state.slots[name],), numbers, (given,))
    crossing.done(state.slots[name])
