"""What RecIS v1's format can hold: names without its dividers, dtypes that RecIS reads, a row for each id.

Sizes: n rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recis_core.serialize.imports.recis_keys import ID, ROWS
from recis_core.serialize.part_file import NAMES

KINDS = ("I8", "U8", "I16", "I32", "I64", "F16", "BF16", "F32", "F64")  # that RecIS reads
Tables = Mapping[str, Mapping[str, Tensor]]


def check_content(tables: Tables, tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError or TypeError for what the format cannot hold."""
    for name, slots in tables.items():
        if not name or set(name) & set("@^"):
            raise ValueError(f"a table's name must hold no @ and no ^, which divide names in the format; got {name!r}.")
        if lacking := {ID, ROWS} - set(slots):
            raise ValueError(f"table {name!r} lacks {sorted(lacking)}; it has {sorted(slots)}.")
        for slot, values in slots.items():
            _check_slot(name, slot, values, len(slots[ID]))
    for name, value in tensors.items():
        if not name or "^" in name:
            raise ValueError(f"a plain tensor's name must hold no ^; got {name!r}.")
        _check_kind(f"tensor {name!r}", value)


def _check_slot(table: str, slot: str, values: Tensor, rows: int) -> None:
    what = f"slot {slot!r} of table {table!r}"
    _check_kind(what, values)
    if not slot or set(slot) & set(".@^/"):
        raise ValueError(f"{what}: a slot's name must hold none of . @ ^ /.")
    if slot == ID and (values.dtype != torch.int64 or values.dim() != 1):
        raise ValueError(f"{what} must be int64 [n]; got {values.dtype} {list(values.shape)}.")
    if values.dim() < 1 or len(values) != rows:
        raise ValueError(f"{what} must have a row for each of {rows} ids; got {list(values.shape)}.")


def _check_kind(what: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{what} must be a tensor; got {type(value).__name__}.")
    if NAMES.get(value.dtype) not in KINDS:
        raise ValueError(f"{what} is {value.dtype}; RecIS's format holds {', '.join(KINDS)}. Cast it first.")
