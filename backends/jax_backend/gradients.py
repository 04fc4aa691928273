"""Gradients between backward and step: pad torch tensors, run programs, cut the results.

Sizes: U unique keys, P keys (padded), D dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends.jax_backend.gradient import KeyedGradient
from recis_core.backends.jax_backend.inputs import Crossing
from recis_core.backends.jax_backend.ladder import rung
from recis_core.backends.jax_backend.programs import Programs
from recis_core.bridge.dlpack import ids_to_torch, to_torch


def from_keys(
    state: object, ids: Tensor, tables: Tensor, rows: Tensor, values: Tensor, counts: Tensor | None = None
) -> KeyedGradient:
    counts = torch.ones_like(tables) if counts is None else counts
    size, crossing = rung(len(ids)), Crossing()
    words = crossing.words(ids, size)
    gradient = KeyedGradient(
        words[:, 0],
        words[:, 1],
        crossing.array(tables, size, torch.int32),
        crossing.array(rows, size, torch.int32, fill=-1),
        crossing.array(values, size, torch.float32),
        crossing.array(counts, size, torch.int32),
        crossing.array(torch.tensor([len(ids)], device=ids.device), 1, torch.int32)[0],
    )
    crossing.done(gradient)
    return gradient


def combine(programs: Programs, gradients: list[KeyedGradient], *, mean: bool = False) -> KeyedGradient:
    """Several are padded to one size first: one program a rung, not one for each mixture of rungs."""
    summed = gradients[0]
    if len(gradients) > 1:
        size = max(g.rows.shape[0] for g in gradients)
        alike = (g if g.rows.shape[0] == size else programs.pad_gradient(g, size=size) for g in gradients)
        summed = programs.combine(tuple(alike))
    return programs.by_occurrence(summed) if mean else summed


def read(programs: Programs, gradient: KeyedGradient) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g, count = gradient, int(gradient.count)
    ids = ids_to_torch(programs.words(g.lo, g.hi))
    return ids[:count], to_torch(g.ordinals)[:count], to_torch(g.rows)[:count], to_torch(g.values)[:count]


def without(programs: Programs, gradient: KeyedGradient, gone: Tensor) -> KeyedGradient:
    """Through the host: used only after rows were erased, which takes longer."""
    stay = ~gone
    lines = (*read(programs, gradient), to_torch(gradient.counts)[: len(gone)])
    return from_keys(None, *(x[stay.to(x.device)] for x in lines))


def renumbered(gradient: KeyedGradient, rows: Tensor) -> KeyedGradient:
    crossing = Crossing()
    numbers = crossing.array(rows, gradient.rows.shape[0], torch.int32, fill=-1)
    crossing.done(numbers)
    return gradient._replace(rows=numbers)


def measure(programs: Programs, gradient: KeyedGradient) -> tuple[Tensor, Tensor]:
    total, finite = programs.measure(gradient)
    return to_torch(total), to_torch(finite)
