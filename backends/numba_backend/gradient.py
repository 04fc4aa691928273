"""Gradients by unique key, between backward and the optimizer step.

Sizes: U unique keys, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numba import prange
from torch import Tensor

from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined
from recis_core.backends.numba_backend.lanes import LANES, load, store
from recis_core.backends.numba_backend.partition import unique_keys
from recis_core.backends.numba_backend.state import TableState, as_arrays

BLOCK = 256  # rows whose squares make one partial sum, whatever the thread count


@dataclass(frozen=True)
class KeyedGradient:
    ids: np.ndarray  # int64 [U]
    tables: np.ndarray  # int32 [U]
    rows: np.ndarray  # int32 [U], distinct but for -1
    values: np.ndarray  # float32 [U, D]
    counts: np.ndarray  # int32 [U], occurrences
    known_squares: float | None = None  # Σ values², where a backward has it at hand

    @cached_property
    def square_sum(self) -> float:
        """Σ values², in float64, where squares of float32 cannot overflow: it is finite if and only if all values are."""
        if self.known_squares is not None:
            return self.known_squares
        partials = np.zeros((-(-len(self.values) // BLOCK), self.values.shape[1]))
        _sum_squares(self.values, partials)
        return float(partials.sum())


@compiled_parallel
def _sum_squares(values, partials):  # type: ignore[no-untyped-def]
    for block in prange(len(partials)):
        _square_block(values, block * BLOCK, min(block * BLOCK + BLOCK, len(values)), partials[block])


@compiled
def _square_block(values, beg, end, partial):  # type: ignore[no-untyped-def]
    """Column by column, so that no addition waits for its neighbour."""
    for u in range(beg, end):
        _add_squares(values[u], partial)


@inlined
def _add_squares(row, partial):  # type: ignore[no-untyped-def]
    for d in range(len(partial)):
        partial[d] += np.float64(row[d]) * np.float64(row[d])


def from_keys(
    state: TableState, ids: Tensor, tables: Tensor, rows: Tensor, values: Tensor, counts: Tensor | None = None
) -> KeyedGradient:
    counts = torch.ones_like(tables) if counts is None else counts
    return KeyedGradient(*as_arrays(ids, tables, rows, values.float(), counts))


def known(g: KeyedGradient) -> KeyedGradient:
    """Without the keys that have no row."""
    return _lines(g, g.rows >= 0)


def without(gradient: KeyedGradient, gone: Tensor) -> KeyedGradient:
    return _lines(gradient, ~gone.numpy())


def _lines(g: KeyedGradient, at: np.ndarray) -> KeyedGradient:
    return KeyedGradient(g.ids[at], g.tables[at], g.rows[at], g.values[at], g.counts[at])


def read(gradient: KeyedGradient) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = gradient
    return torch.from_numpy(g.ids), torch.from_numpy(g.tables), torch.from_numpy(g.rows), torch.from_numpy(g.values)


def renumbered(gradient: KeyedGradient, rows: Tensor) -> KeyedGradient:
    return replace(gradient, rows=as_arrays(rows)[0])


def measure(gradient: KeyedGradient) -> tuple[Tensor, Tensor]:
    total = gradient.square_sum
    finite = torch.tensor(bool(np.isfinite(total)), device="cpu")
    return torch.tensor(total, dtype=torch.float64, device="cpu"), finite


def combine(gradients: list[KeyedGradient], *, mean: bool = False) -> KeyedGradient:
    g = gradients[0] if len(gradients) == 1 else _summed(gradients)
    if not mean:
        return g
    return KeyedGradient(
        g.ids, g.tables, g.rows, g.values / np.maximum(g.counts, 1)[:, None].astype(np.float32), g.counts
    )


def _summed(gradients: list[KeyedGradient]) -> KeyedGradient:
    ids, tables, rows = (np.concatenate([getattr(g, n) for g in gradients]) for n in ("ids", "tables", "rows"))
    unique = unique_keys(ids, np.ones(len(ids), np.int64), tables)
    values = np.zeros((len(unique.ids), gradients[0].values.shape[1]), np.float32)
    of_key, counts = np.empty(len(unique.ids), np.int32), np.zeros(len(unique.ids), np.int32)
    of_key[unique.inverse] = rows
    beg = 0
    for g in gradients:
        where = unique.inverse[beg : beg + len(g.ids)]
        _add_rows(values, where, g.values)
        counts[where] += g.counts
        beg += len(g.ids)
    return KeyedGradient(unique.ids, unique.tables, of_key, values, counts)


@compiled_parallel
def _add_rows(sums, where, values):  # type: ignore[no-untyped-def]
    """where: distinct rows of sums."""
    U = len(where)
    for block in prange((U + BLOCK - 1) // BLOCK):
        for u in range(block * BLOCK, min(block * BLOCK + BLOCK, U)):
            _add_row(values, u, sums, np.int64(where[u]))


@inlined
def _add_row(values, u, sums, to):  # type: ignore[no-untyped-def]
    D = values.shape[1]
    for d in range(0, D, LANES):
        total = load(sums, to * D + d, D - d) + load(values, u * D + d, D - d)
        store(sums, to * D + d, D - d, total)
