"""Weighted sums and means of vectors by segment.

Sizes: V vectors, D dim, N occurrences, S segments.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from recis_core.hashing.columns import device_of, runs_loops
from recis_core.ragged.offsets import rows_of

CHUNK = 32  # as in the compiled loops
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def segment_sum(data: Tensor, weight: Tensor | None, indices: Tensor, segment_ids: Tensor, num_segments: int) -> Tensor:
    """Σ weight[i] · data[indices[i]] over the occurrences i of each segment.

        data [[1], [2], [3]]   weight 2 3 .5 1   indices 2 0 1 0   segment_ids 0 1 1 2   →   6, 4, 1

    Args:
      data: floating [V, D].
      weight: floating [N], or None for ones.
      indices: integers [N], 0 to V - 1.
      segment_ids: integers [N], 0 to S - 1, in any order.
      num_segments: S.

    Returns:
      [S, D] in data's dtype, float64 summed in float64, all others in float32; a segment without occurrences gives zeros.
      Occurrences are added in their order, in chunks of 32, and chunks likewise: the same bits from loops and torch, on any
      number of threads. Gradients flow to data, summed alike, and to weight.

    Raises:
      TypeError: dtypes. ValueError: shapes, devices, or an index out of range, which other devices check under
        RECIS_CHECK=1.
    """
    return _reduce(data, weight, indices, segment_ids, num_segments, mean=False)


def segment_mean(
    data: Tensor, weight: Tensor | None, indices: Tensor, segment_ids: Tensor, num_segments: int
) -> Tensor:
    """Σ weight[i] · data[indices[i]] / Σ weight[i] over each segment; zeros, with gradients of zero, where the divisor is 0 or
    below the dtype's least normal number. Else as `segment_sum`."""
    return _reduce(data, weight, indices, segment_ids, num_segments, mean=True)


def _reduce(data: Tensor, weight: Tensor | None, indices: Tensor, segment_ids: Tensor, S: int, mean: bool) -> Tensor:
    _check(data, weight, indices, segment_ids, S)
    indices, segment_ids = indices.long().contiguous(), segment_ids.long().contiguous()
    made: Tensor = _Reduce.apply(data, weight, indices, segment_ids, int(S), mean)
    return made


def _check(data: Tensor, weight: Tensor | None, indices: Tensor, segment_ids: Tensor, S: int) -> None:
    tensors = [data, indices, segment_ids, *([] if weight is None else [weight])]
    device = device_of(tensors, "data, weight, indices and segment_ids")
    if data.dtype not in FLOATS or (weight is not None and weight.dtype not in FLOATS):
        raise TypeError(f"data and weight must be floating; got {data.dtype} and {weight and weight.dtype}.")
    for name, ids in (("indices", indices), ("segment_ids", segment_ids)):
        if ids.dtype.is_floating_point or ids.dtype == torch.bool:
            raise TypeError(f"{name} must be integers; got {ids.dtype}.")
    if data.dim() != 2 or any(tensor.shape != (len(indices),) for tensor in tensors[1:]):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(f"data must be [V, D], indices, segment_ids and weight [N]; got {shapes}.")
    if isinstance(S, bool) or int(S) != S or S < 0:
        raise ValueError(f"num_segments must be an integer from 0 on; got {S!r}.")
    if device.type == "cpu" or os.environ.get("RECIS_CHECK") == "1":
        check_range(indices, len(data), "indices")
        check_range(segment_ids, int(S), "segment_ids")


def check_range(ids: Tensor, count: int, name: str) -> None:
    """Raises ValueError unless all ids are from 0 to count - 1."""
    if not len(ids):
        return
    low, high = map(int, ids.aminmax())
    if low < 0 or high >= count:
        at = int(((ids < 0) | (ids >= count)).nonzero()[0])
        raise ValueError(f"{name} must be from 0 to {count - 1}; got {name}[{at}] = {int(ids[at])}.")


class _Reduce(torch.autograd.Function):
    """Sum or mean; the gradient to data is a segment sum as well, with indices and segments exchanged."""

    @staticmethod
    def forward(
        ctx: Any, data: Tensor, weight: Tensor | None, indices: Tensor, segments: Tensor, S: int, mean: bool
    ) -> Tensor:
        dtype = torch.float64 if data.dtype == torch.float64 else torch.float32
        vectors, scale = data.to(dtype), None if weight is None else weight.to(dtype)
        out, divisor = ordered_sum(vectors, scale, indices, segments, S), None
        if mean:
            ones = torch.ones(1, 1, dtype=dtype, device=data.device)
            total = ordered_sum(ones, scale, torch.zeros_like(indices), segments, S)
            nothing = total.abs() < torch.finfo(dtype).tiny
            divisor = total.where(~nothing, torch.inf)
            out = (out / divisor).where(~nothing, 0)
        ctx.save_for_backward(vectors, scale, indices, segments, out if mean else None, divisor)
        ctx.dtypes = data.dtype, weight if weight is None else weight.dtype
        return out.to(data.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        vectors, scale, indices, segments, out, divisor = ctx.saved_tensors
        grad, (data_dtype, weight_dtype) = grad.to(vectors.dtype), ctx.dtypes
        to_data = to_weight = None
        if ctx.needs_input_grad[0]:
            by = scale if divisor is None else _over(scale, divisor[segments, 0])
            to_data = ordered_sum(grad, by, segments, indices, len(vectors)).to(data_dtype)
        if weight_dtype is not None and ctx.needs_input_grad[1]:
            from_mean = vectors[indices] if out is None else vectors[indices] - out[segments]
            to_weight = (from_mean * grad[segments]).sum(1)
            to_weight = to_weight if divisor is None else to_weight / divisor[segments, 0]
            to_weight = to_weight.to(weight_dtype)
        return to_data, to_weight, None, None, None, None


def _over(scale: Tensor | None, divisor: Tensor) -> Tensor:
    return 1 / divisor if scale is None else scale / divisor


def ordered_sum(vectors: Tensor, scale: Tensor | None, source: Tensor, segments: Tensor, S: int) -> Tensor:
    """[S, D]: Σ scale[i] · vectors[source[i]] by segments int64 [N], in the fixed order; float32 or float64."""
    return (_by_loops if runs_loops(vectors.device) else _by_torch)(vectors, scale, source, segments, S)


def _by_loops(vectors: Tensor, scale: Tensor | None, source: Tensor, segments: Tensor, S: int) -> Tensor:
    from recis_core.backends.column_loops import segment_sum as loops  # loads numba

    offsets, order, at = (torch.empty(n, dtype=torch.int64, device="cpu") for n in (S + 1, len(segments), S))
    loops.sort_by_segment(*(t.numpy() for t in (segments, offsets, order, at)))
    ordered = vectors.new_ones(len(order)) if scale is None else scale.detach()[order]
    out = vectors.new_empty(S, vectors.shape[1])
    arrays = [t.detach().numpy() for t in (vectors.contiguous(), source[order], ordered, offsets, out)]
    loops.sum_segments(*arrays)
    return out


def _by_torch(vectors: Tensor, scale: Tensor | None, source: Tensor, segments: Tensor, S: int) -> Tensor:
    order = segments.argsort(stable=True)
    terms = vectors[source[order]] if scale is None else vectors[source[order]] * scale[order][:, None]
    counts = torch.bincount(segments, minlength=S)
    most = int(counts.max()) if S and len(segments) else 0
    while most > 1:
        terms, counts = _chunk_sums(terms, counts, min(most, CHUNK))
        most = -(-most // CHUNK)
    out = vectors.new_zeros(S, vectors.shape[1])
    held = counts > 0
    out[held] = out[held] + terms
    return out


def _chunk_sums(terms: Tensor, counts: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Sums of chunks of each segment's terms, from left to right; and how many chunks each segment has."""
    chunks = (counts + CHUNK - 1) // CHUNK
    offsets = torch.cat([chunks.new_zeros(1), chunks.cumsum(0)])
    segment = rows_of(offsets, int(offsets[-1]))
    within = torch.arange(len(segment), device=terms.device) - offsets[segment]
    first = (counts.cumsum(0) - counts)[segment] + CHUNK * within
    length = (counts[segment] - CHUNK * within).clamp(max=CHUNK)
    sums = terms.new_zeros(len(segment), terms.shape[1])
    for k in range(most):
        there = k < length
        sums = sums + terms[torch.where(there, first + k, 0)].where(there[:, None], 0)
    return sums, chunks
