"""Columns by hand, and what tests compare them by."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from recis_core.features import Feature, SelectField, SelectFields
from recis_core.features.op import Op
from recis_core.ragged import RaggedTensor


def rows(
    *values: Sequence[Any], dtype: torch.dtype = torch.int64, weights: Sequence[float] | None = None
) -> RaggedTensor:
    """rows([1, 2], [], [3])"""
    offsets = torch.tensor([0, *(len(row) for row in values)]).cumsum(0)
    weight = None if weights is None else torch.tensor(weights)
    return RaggedTensor(torch.tensor([v for row in values for v in row], dtype=dtype), offsets, weight)


def texts(*values: Sequence[str | bytes]) -> RaggedTensor:
    """texts(["a", "bc"], [])"""
    encoded = [t.encode() if isinstance(t, str) else t for row in values for t in row]
    outer = torch.tensor([0, *(len(row) for row in values)]).cumsum(0)
    inner = torch.tensor([0, *map(len, encoded)]).cumsum(0)
    return RaggedTensor(torch.tensor(list(b"".join(encoded)), dtype=torch.uint8), [outer, inner])


def listed(value: Any) -> list[Any]:
    """Rows of a column as lists."""
    if not isinstance(value, RaggedTensor):
        return list(value.tolist())
    out = value.values().tolist()
    for level in reversed(value.offsets()):
        edges = level.tolist()
        out = [out[a:b] for a, b in pairwise(edges)]
    return out


def bits(value: Any) -> Any:
    """Equal for equal bits, dtypes and forms alone."""
    if isinstance(value, RaggedTensor):
        return "rows", bits(value.values()), [bits(o) for o in value.offsets()], bits(value.weight()), value.dense_shape
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().numpy().tobytes()
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    if isinstance(value, list):
        return [bits(item) for item in value]
    return value


def feature(name: str, fields: str | list[str], *ops: Op) -> Feature:
    made = Feature(name).add_op(SelectField(fields) if isinstance(fields, str) else SelectFields(fields))
    for op in ops:
        made.add_op(op)
    return made
