"""Weighted sums of embeddings by segment.

Sizes: U unique embeddings, D dim, N occurrences, S segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recis_core import ragged
from recis_core.compat.recis.absent import refuse_name
from recis_core.compat.recis.nn.functional.fused_ops import fused_ids_encode_gpu
from recis_core.compat.recis.nn.modules.mean_divisors import FEW, by_count, by_weight

__all__ = [
    "ids_encode",
    "merge_offsets",
    "ragged_embedding_segment_reduce",
    "segment_sum_sparse",
    "sparse_embedding_segment_reduce",
    "weight_norm_sparse",
]


def segment_sum_sparse(
    data: Tensor, weight: Tensor | None, indices: Tensor, segment_ids: Tensor, num_segments: int, backend: str = "recis"
) -> Tensor:
    """Σ weight[i] · data[indices[i]] of each segment, [S, D]. backend: either name gives the same."""
    return ragged.segment_sum(data, weight, indices, segment_ids, num_segments)


def weight_norm_sparse(
    data: Tensor, weight: Tensor | None, segment_ids: Tensor, num_segments: int, backend: str = "recis"
) -> Tensor:
    """Weights [N] over the divisor of their segment's mean: backend "recis" divides by Σ weights, "torch" by the count."""
    weights = torch.ones(len(segment_ids), dtype=data.dtype, device=data.device) if weight is None else weight
    return (by_weight if backend == "recis" else by_count)(weights, segment_ids, num_segments)


def sparse_embedding_segment_reduce(
    unique_emb: Tensor, weight: Tensor, reverse_indices: Tensor, segment_ids: Tensor, num_segments: int, combiner: str
) -> Tensor:
    """ "sum", or "mean" by Σ weights, of each segment's embeddings; the gradient flows to unique_emb."""
    _check_combiner(combiner, ("sum", "mean"))
    if combiner == "mean":
        weight = weight_norm_sparse(unique_emb, weight, segment_ids, num_segments)
    return ragged.segment_sum(unique_emb, weight.detach(), reverse_indices, segment_ids, num_segments)


def segment_reduce(
    unique_emb: Tensor, weight: Tensor | None, reverse_indices: Tensor, offsets: Tensor, mode: str
) -> Tensor:
    """The operator behind calls of many ids: "sum"; "mean" by the count; "tile", each occurrence times its weight."""
    _check_combiner(mode, ("sum", "mean", "tile"))
    segments = segment_ids_of(offsets)
    weights = torch.ones(len(segments), dtype=unique_emb.dtype, device=unique_emb.device) if weight is None else weight
    if mode == "tile":
        return unique_emb[reverse_indices] * weights[:, None]
    if mode == "mean":
        weights = by_count(weights, segments, len(offsets) - 1)
    return ragged.segment_sum(unique_emb, weights.detach(), reverse_indices, segments, len(offsets) - 1)


def ragged_embedding_segment_reduce(
    unique_emb: Tensor,
    weight: Tensor | None,
    reverse_indices: Tensor,
    offsets: Tensor,
    combiner: str,
    combiner_kwargs: dict[str, Any] | None = None,
) -> Tensor:
    """Embeddings of each segment by "sum", "mean" or "tile".

    "mean" divides by Σ weights in calls of few ids, at most FEW an offset; else by the count. "tile" takes no weights, and
    wants combiner_kwargs {"bs": rows of each group, "tile_len": vectors of each row}.
    """
    _check_combiner(combiner, ("sum", "mean", "tile"))
    if combiner == "tile":
        groups = combiner_kwargs or {}
        return ragged.ragged_tile(groups["bs"], groups["tile_len"], reverse_indices, offsets, unique_emb)
    if len(reverse_indices) / len(offsets) > FEW:
        return segment_reduce(unique_emb, weight, reverse_indices, offsets, combiner)
    segments = segment_ids_of(offsets)
    weights = torch.ones(len(segments), dtype=unique_emb.dtype, device=unique_emb.device) if weight is None else weight
    count = len(offsets) - 1
    return sparse_embedding_segment_reduce(unique_emb, weights, reverse_indices, segments, count, combiner)


def segment_ids_of(offsets: Tensor) -> Tensor:
    """0 2 5 → 0 0 1 1 1"""
    return torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())


def merge_offsets(offsets: Sequence[Tensor]) -> Tensor:
    """Offsets of all columns' rows, whose values lie one after another."""
    return ragged.merge_offsets(offsets)


def ids_encode(ids_list: Sequence[Tensor], table_ids: Tensor | Sequence[int]) -> Tensor:
    """As fused_ids_encode_gpu."""
    return fused_ids_encode_gpu(ids_list, table_ids)


def _check_combiner(combiner: str, known: tuple[str, ...]) -> None:
    if combiner not in known:
        raise ValueError(f"combiner must be one of {', '.join(known)}; got {combiner!r}.")


def __getattr__(name: str) -> Any:
    return refuse_name(__name__, name)
