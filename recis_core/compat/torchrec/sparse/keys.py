"""Keys of a KeyedJaggedTensor chosen, and those of several joined: arguments of the one to be made.

Sizes: N values.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from recis_core.compat.torchrec.sparse.keyed_jagged import KeyedJaggedTensor


def chosen(kjt: KeyedJaggedTensor, indices: Sequence[int]) -> dict[str, Any]:
    """The keys of these indices, in this order."""
    values, rows, weights = kjt.offset_per_key(), kjt.lengths_offset_per_key(), kjt.weights_or_none()
    per_rank = kjt.stride_per_key_per_rank() if kjt.variable_stride_per_key() else None
    return {
        "keys": [kjt.keys()[i] for i in indices],
        "values": _runs(kjt.values(), values, indices),
        "weights": None if weights is None else _runs(weights, values, indices),
        "lengths": _runs(kjt.lengths(), rows, indices),
        "stride_per_key": [kjt.stride_per_key()[i] for i in indices],
        "stride_per_key_per_rank": None if per_rank is None else [per_rank[i] for i in indices],
        "length_per_key": [kjt.length_per_key()[i] for i in indices],
    }


def _runs(tensor: Tensor, at: list[int], indices: Sequence[int]) -> Tensor:
    """Runs i of the tensor, which begin at `at`, one after another; one run alone is a view."""
    parts = [tensor[at[i] : at[i + 1]] for i in indices]
    return parts[0] if len(parts) == 1 else torch.cat(parts) if parts else tensor.new_empty(0)


def joined(parts: Sequence[KeyedJaggedTensor]) -> dict[str, Any]:
    """The keys of all, one after another; raises ValueError as KeyedJaggedTensor.concat."""
    if not parts:
        raise ValueError("kjt_list must hold at least one KeyedJaggedTensor; got none.")
    weights = [part.weights_or_none() for part in parts]
    inverse = [part.inverse_indices_or_none() for part in parts]
    if len({found is None for found in weights}) > 1 or len({found is None for found in inverse}) > 1:
        raise ValueError("all of kjt_list must have weights and inverse indices, or none of them.")
    given = [found for found in inverse if found is not None]
    return {
        "keys": list(chain(*[part.keys() for part in parts])),
        "values": torch.cat([part.values() for part in parts]),
        "weights": None if weights[0] is None else torch.cat([part.weights() for part in parts]),
        "lengths": torch.cat([part.lengths() for part in parts]),
        "stride_per_key": list(chain(*[part.stride_per_key() for part in parts])),
        "stride_per_key_per_rank": _per_rank(parts),
        "inverse_indices": (list(chain(*[names for names, _ in given])), torch.cat([i for _, i in given]))
        if given
        else None,
    }


def _per_rank(parts: Sequence[KeyedJaggedTensor]) -> list[list[int]] | None:
    varied = {part.variable_stride_per_key() for part in parts}
    strides = {stride for part in parts for stride in part.stride_per_key()}
    if True not in varied and len(strides) <= 1:
        return None
    if False in varied:
        raise ValueError(f"all of kjt_list must have batches of one size; got {sorted(strides)}.")
    return list(chain(*[part.stride_per_key_per_rank() for part in parts]))
