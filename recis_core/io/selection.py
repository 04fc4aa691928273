"""Operations on a whole batch: nested dicts, lists and tuples of tensors and RaggedTensors.

Sizes: B rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recis_core.ragged import RaggedTensor


def each_tensor(batch: Any, function: Callable[[Any], Any]) -> Any:
    """The same structure, with `function` applied to each Tensor and RaggedTensor."""
    if isinstance(batch, Tensor | RaggedTensor):
        return function(batch)
    if isinstance(batch, dict):
        return {key: each_tensor(value, function) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(each_tensor(value, function) for value in batch)
    return batch


def to_device(batch: Any, device: str | torch.device) -> Any:
    """A batch on a device; the copy to a GPU uses page-locked memory and does not wait."""
    if device == "pin":
        return each_tensor(batch, lambda tensor: tensor.pin_memory())
    device = torch.device(device)
    if device.type == "cpu":
        return batch
    return each_tensor(batch, lambda tensor: tensor.pin_memory().to(device, non_blocking=True))


def select_rows(batch: Any, kept: Tensor) -> Any:
    """The rows of a batch where `kept`, bool [B], is True."""
    return each_tensor(batch, lambda tensor: _select(tensor, kept))


def _select(tensor: Tensor | RaggedTensor, kept: Tensor) -> Tensor | RaggedTensor:
    if len(kept) != len(tensor):
        raise ValueError(f"a row filter must give one bool a row = {len(tensor)}; got {len(kept)}.")
    if isinstance(tensor, Tensor):
        return tensor[kept]
    levels = []
    for offsets in tensor.offsets():
        lengths = offsets.diff()
        levels.append(torch.cat([offsets.new_zeros(1), lengths[kept].cumsum(0)]))
        kept = torch.repeat_interleave(kept, lengths)
    weight = tensor.weight()
    return RaggedTensor(tensor.values()[kept], levels, weight=None if weight is None else weight[kept])
