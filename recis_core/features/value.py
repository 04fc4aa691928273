"""What ops take and give: tensors and rows of unequal length; their kinds, flat values and row offsets.

Sizes: N values, B rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recis_core.ragged import RaggedTensor

Value = Tensor | RaggedTensor
BYTES = (torch.uint8, torch.int8)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8)
MEANING = {
    "int": "integers",
    "float": "floats",
    "number": "integers or floats",
    "text": "text: a RaggedTensor of bytes, uint8, with two levels of offsets or more, as varlen_feature reads it",
    "any": "a tensor",
}


def is_text(value: Any) -> bool:
    return isinstance(value, RaggedTensor) and value.dtype in BYTES and len(value.offsets()) >= 2


def kind_of(value: Value) -> str:
    if is_text(value):
        return "text"
    return "float" if value.dtype.is_floating_point else "int" if value.dtype in INTEGERS else str(value.dtype)


def described(value: Any) -> str:
    """For errors: what came."""
    if isinstance(value, RaggedTensor):
        return f"text, {value!r}" if is_text(value) else repr(value)
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype}, shape {tuple(value.shape)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return type(value).__name__


def check_kind(value: Any, wanted: str, what: str = "") -> None:
    """Raises TypeError unless a value is of this kind, a key of MEANING."""
    place = f"{what} " if what else ""
    if not isinstance(value, Tensor | RaggedTensor):
        way = "SelectField selects one field; SelectFields are for ops of several." if isinstance(value, list) else ""
        way = way or "torch.from_numpy or RaggedTensor.from_numpy make tensors of arrays."
        raise TypeError(f"{place}must be {MEANING[wanted]}; got {described(value)}. {way}")
    kind = kind_of(value)
    if wanted != "any" and kind != wanted and not (wanted == "number" and kind in ("int", "float")):
        raise TypeError(f"{place}must be {MEANING[wanted]}; got {described(value)}.{_way_out(kind, wanted)}")


def _way_out(kind: str, wanted: str) -> str:
    if kind == "text":
        return " Hash or Vocabulary make integers of text; so does id_feature while reading."
    if wanted == "float":
        return " Read the column as floats."
    if kind == "float":
        return " Bucketize or Quantile make integers of floats; id_feature(whole=True) reads whole floats as ids."
    return ""


def flat(value: Value) -> Tensor:
    """The values: of a RaggedTensor [N], of a sparse tensor its entries, of a tensor itself."""
    if isinstance(value, RaggedTensor):
        return value.values()
    return value.coalesce().values() if value.is_sparse else value


def like(value: Value, values: Tensor) -> Value:
    """Other values in the same places. Offsets, weights and dense_shape are shared."""
    if isinstance(value, RaggedTensor):
        return value.with_values(values)
    if not value.is_sparse:
        return values
    indices = value.coalesce().indices()
    return torch.sparse_coo_tensor(indices, values, value.shape, is_coalesced=True, check_invariants=False)


def mapped(value: Value, function: Callable[[Tensor], Tensor]) -> Value:
    return like(value, function(flat(value)))


def rows_of(value: Value) -> int:
    return len(value)


def rows_and_values(value: Value) -> tuple[Tensor, Tensor]:
    """(values [N], offsets [B + 1]): of a RaggedTensor of one level; of a tensor [B] or [B, F] with B rows."""
    if isinstance(value, RaggedTensor):
        return value.values(), value.offsets()[-1]
    width = value.shape[1] if value.dim() == 2 else 1
    return value.reshape(-1), torch.arange(len(value) + 1, device=value.device) * width


def check_rows(value: Value, what: str) -> None:
    """Raises ValueError unless `rows_and_values` takes it."""
    if isinstance(value, RaggedTensor):
        if len(value.offsets()) != 1 or value.values().dim() != 1:
            raise ValueError(f"{what} must have rows of single values, one level of offsets; got {value!r}.")
    elif value.is_sparse or value.dim() not in (1, 2):
        raise ValueError(f"{what} must be a RaggedTensor, or a tensor [B] or [B, F]; got {described(value)}.")
