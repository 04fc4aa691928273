"""torch.ops.recis: RecIS's operators that users and models call, as functions on any device.

Operators of RecIS's allocator (block_*, generate_ids, free_ids, mask_key_index, scatter_ids_with_mask, ids_partition) are
not here: our tables have no such parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recis_core import ragged
from recis_core.compat.recis.nn.functional import array_ops, embedding_ops, fused_ops, hash_ops, ragged_ops


def dense_to_ragged(
    data: Tensor, check_invalid: bool = False, invalid_value: Tensor | float = 0
) -> tuple[Tensor, Tensor]:
    """Values, and offsets int32, of a rectangle's rows; check_invalid removes each row's trailing run of invalid_value.

    Unchecked, RecIS's operator gives every L-th number up to B for offsets, which are right only where L is 1. So does this;
    ragged_ops.dense_to_ragged and RaggedTensor.from_dense give those of the rows.
    """
    values, offsets = ragged.dense_to_ragged(data, check_invalid, float(invalid_value))
    rows, length = data.shape
    as_there = torch.arange(0, rows + 1, length, dtype=torch.int32, device=data.device)
    return values, offsets[-1].int() if check_invalid else as_there


def merge_offsets(offsets: list[Tensor], max_value: Tensor) -> Tensor:
    """Offsets of all columns, where column c's values begin at the sum of max_value before; in the offsets' dtype."""
    begins = torch.cat([max_value.new_zeros(1), max_value.cumsum(0)]).tolist()
    moved = [level[1:] + int(begin) for level, begin in zip(offsets, begins, strict=False)]
    return torch.cat([offsets[0][:1], *moved])


def segment_reduce_backward(
    grad: Tensor, weight: Tensor | None, reverse_indices: Tensor, offsets: Tensor, unique_size: int, mode: str
) -> Tensor:
    """The gradient [unique_size, D] of embeddings, of a gradient of `segment_reduce_forward`."""
    embeddings = torch.zeros(unique_size, grad.shape[1], dtype=grad.dtype, device=grad.device, requires_grad=True)
    with torch.enable_grad():
        out = embedding_ops.segment_reduce(embeddings, weight, reverse_indices, offsets, mode)
    return torch.autograd.grad(out, embeddings, grad)[0]


def segment_mean(data: Tensor, weight: Tensor | None, segment_ids: Tensor, num_segments: int) -> Tensor:
    """Weights over Σ weights of their segment."""
    return embedding_ops.weight_norm_sparse(data, weight, segment_ids, num_segments)


def fused_hash(inputs: list[Tensor], splits: list[Tensor], hash_type: str) -> list[Tensor]:
    """hash_type: "farm" or "murmur"."""
    return (hash_ops.farmhash if hash_type == "farm" else hash_ops.murmurhash)(inputs, splits)


def feature_cross_ragged(
    x: Tensor, x_offsets: Tensor, x_weight: Tensor, y: Tensor, y_offsets: Tensor, y_weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return ragged_ops.feature_cross_ragged(x, x_offsets, y, y_offsets, x_weight, y_weight)


def gather(index: Tensor, data: Tensor) -> Tensor:
    return data[index]


OPERATORS: dict[str, Callable[..., Any]] = {
    "bucketize_op": array_ops.bucketize,
    "calc_ragged_index": ragged_ops.ragged_topk_index_cutoff,
    "dense_to_ragged": dense_to_ragged,
    "feature_cross_ragged": feature_cross_ragged,
    "fused_bucketized": fused_ops.fused_bucketize_gpu,
    "fused_hash": fused_hash,
    "fused_multi_hash": fused_ops.fused_multi_hash,
    "fused_ragged_cutoff": ragged_ops.fused_ragged_cutoff_2D,
    "fused_ragged_cutoff_3D": ragged_ops._fused_ragged_cutoff_3D,
    "fused_uint64_mod": fused_ops.fused_uint64_mod_gpu,
    "gather": gather,
    "gen_segment_indices_by_offset": embedding_ops.segment_ids_of,
    "ids_encode": fused_ops.fused_ids_encode_gpu,
    "merge_offsets": merge_offsets,
    "ragged_to_dense": ragged_ops.ragged_to_dense,
    "ragged_to_sparse": ragged_ops.ragged_to_sparse,
    "segment_mean": segment_mean,
    "segment_reduce_backward": segment_reduce_backward,
    "segment_reduce_forward": embedding_ops.segment_reduce,
    "segment_sum": embedding_ops.segment_sum_sparse,
    "uint64_mod": array_ops.bucketize_mod,
}


def register() -> None:
    """Put the functions into torch.ops.recis, where no operator of that name is: the real RecIS's stay."""
    for name, function in OPERATORS.items():
        if name not in torch.ops.recis.__dict__:
            setattr(torch.ops.recis, name, function)
