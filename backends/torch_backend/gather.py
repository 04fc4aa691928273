"""Rows by number."""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends.torch_backend.initial_values import initial_values
from recis_core.backends.torch_backend.state import TableState


def gather(state: TableState, rows: Tensor, ids: Tensor, tables: Tensor, unknown: str) -> Tensor:
    """float32 [U, D]; row -1 reads as zeros or as its key's initial value."""
    values = state.weights[rows.long().clamp(min=0)].float()
    absent = rows < 0
    if bool(absent.any()):
        values[absent] = _unknown(state, ids[absent], tables[absent], unknown)
    return values


def _unknown(state: TableState, ids: Tensor, tables: Tensor, unknown: str) -> Tensor:
    spec = state.spec
    if unknown == "zeros":
        return torch.zeros(len(ids), spec.dim, dtype=torch.float32, device=ids.device)
    values = initial_values(spec, state.uids(tables), ids)
    return values.to(state.weights.dtype).float()
