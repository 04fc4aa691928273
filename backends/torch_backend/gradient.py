"""Gradients by unique key, between backward and the optimizer step.

Sizes: U unique keys, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from recis_core.backends.torch_backend.pool import ordered_sum
from recis_core.backends.torch_backend.state import TableState


@dataclass(frozen=True)
class KeyedGradient:
    ids: Tensor  # int64 [U]
    tables: Tensor  # int32 [U]
    rows: Tensor  # int32 [U], distinct
    values: Tensor  # float32 [U, D]
    counts: Tensor  # int32 [U], occurrences


def from_keys(
    state: TableState, ids: Tensor, tables: Tensor, rows: Tensor, values: Tensor, counts: Tensor | None = None
) -> KeyedGradient:
    return KeyedGradient(ids, tables, rows, values.float(), torch.ones_like(tables) if counts is None else counts)


def known(g: KeyedGradient) -> KeyedGradient:
    """Without the keys that have no row."""
    return without(g, g.rows < 0)


def without(gradient: KeyedGradient, gone: Tensor) -> KeyedGradient:
    g, at = gradient, ~gone
    return KeyedGradient(g.ids[at], g.tables[at], g.rows[at], g.values[at], g.counts[at])


def read(gradient: KeyedGradient) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return gradient.ids, gradient.tables, gradient.rows, gradient.values


def renumbered(gradient: KeyedGradient, rows: Tensor) -> KeyedGradient:
    return replace(gradient, rows=rows)


def measure(gradient: KeyedGradient) -> tuple[Tensor, Tensor]:
    return gradient.values.double().square().sum(), gradient.values.isfinite().all()


def combine(gradients: list[KeyedGradient], *, mean: bool = False) -> KeyedGradient:
    g = gradients[0] if len(gradients) == 1 else _summed(gradients)
    if not mean:
        return g
    return KeyedGradient(g.ids, g.tables, g.rows, g.values / g.counts.clamp(min=1)[:, None], g.counts)


def _summed(gradients: list[KeyedGradient]) -> KeyedGradient:
    ids, tables, rows, values, counts = (
        torch.cat([getattr(g, name) for g in gradients]) for name in ("ids", "tables", "rows", "values", "counts")
    )
    order = torch.argsort(rows, stable=True)
    unique, lengths = torch.unique_consecutive(rows[order], return_counts=True)
    offsets = F.pad(lengths.cumsum(0), (1, 0))
    first = order[offsets[:-1]]
    summed = torch.zeros_like(unique).index_add_(0, torch.repeat_interleave(lengths), counts[order])
    return KeyedGradient(ids[first], tables[first], unique, ordered_sum(values, offsets, order), summed)
