"""What `encode` is given, checked and brought to CPU tensors.

Sizes: n ids, D dim.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.packets.packet_header import MAX_DIM, MAX_NAME, MAX_NUMBER, STREAM_BYTES


def ids_and_rows(ids: Any, rows: Any) -> tuple[Tensor, Tensor]:
    ids, rows = id_tensor("ids", ids), _tensor("rows", rows, torch.float32)
    if rows.dim() != 2 or len(rows) != len(ids):
        raise ValueError(f"ids must be [n] and rows [n, D]; got {list(ids.shape)} and {list(rows.shape)}.")
    if not 1 <= rows.shape[1] <= MAX_DIM:
        raise ValueError(f"rows must have 1 to {MAX_DIM} columns; got {rows.shape[1]}.")
    return ids, rows


def id_tensor(name: str, values: Any) -> Tensor:
    ids = _tensor(name, values, torch.int64)
    if ids.dim() != 1:
        raise ValueError(f"{name} must be [n]; got {list(ids.shape)}. Flatten them with reshape(-1).")
    return ids


def slot_tensor(name: str, values: Any, n: int) -> Tensor:
    slot = _tensor(f"slot {name!r}", values, torch.float32)
    if slot.dim() != 2 or len(slot) != n:
        raise ValueError(f"slot {name!r} must be [{n}, width]; got {list(slot.shape)}.")
    return slot


def checked_name(what: str, name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str; got {type(name).__name__}.")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} must be valid UTF-8; {name!r:.80} is not.") from error
    if not 1 <= size <= MAX_NAME:
        raise ValueError(f"{what} must have 1 to {MAX_NAME} bytes; got {size}.")
    return name


def place_in_stream(stream: Any, base: Any, version: Any, sequence: Any) -> dict[str, Any]:
    if not isinstance(stream, bytes):
        raise TypeError(f"stream must be bytes; got {type(stream).__name__}.")
    if len(stream) not in (0, STREAM_BYTES):
        raise ValueError(f"stream must be {STREAM_BYTES} bytes, or b'' outside a stream; got {len(stream)} bytes.")
    for name, value in (("base", base), ("version", version), ("sequence", sequence)):
        if type(value) is not int:
            raise TypeError(f"{name} must be an int; got {type(value).__name__}.")
        if not 0 <= value <= MAX_NUMBER:
            raise ValueError(f"{name} must be from 0 to {MAX_NUMBER}; got {value}.")
    if version < base or (stream and version == base):
        raise ValueError(f"version must be past base; got version {version}, base {base}.")
    return {"stream": stream, "base": base, "version": version, "sequence": sequence}


def _tensor(name: str, values: Any, dtype: torch.dtype) -> Tensor:
    if not isinstance(values, Tensor | np.ndarray):
        raise TypeError(f"{name} must be a torch tensor or numpy array; got {type(values).__name__}.")
    wanted = str(dtype).removeprefix("torch.")
    if str(values.dtype).removeprefix("torch.") != wanted:
        raise TypeError(f"{name} must be {wanted}; got {values.dtype}. Convert them first.")
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values, order="C"))
    return tensor.detach().cpu().contiguous()
