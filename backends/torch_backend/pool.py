"""Pooling of rows into bags, and its gradient, by embedding_bag: one ordered pass, no gathered copy.

Each occurrence i adds coefficient[i] times one vector, so every combiner is described by
(coefficient, place): forward sums rows into bags, backward sums output gradients into rows.

Sizes: N ids, U rows, B bags, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recis_core.backends import placement

LEAST = 2.0**-126  # float32's least normal number: a smaller divisor counts as 0
PLAIN = (2.0**-10, 2.0**10)  # weights of these sizes need no scaling


@dataclass(frozen=True)
class Bags:
    """Numbers of each occurrence and of each bag."""

    bag: Tensor  # int64 [N]
    weights: Tensor  # float32 [N], times the lift of their bag
    inverse: Tensor  # float32 [B], 1 / divisor of these weights; 0 where a bag gives zeros
    lift: Tensor | None  # float32 [B], powers of two; None for ones
    offsets: Tensor  # int64 [B + 1]


def bags(offsets: Tensor, weights: Tensor | None, combiner: str) -> Bags:
    offsets = offsets.long()
    lengths = offsets.diff()
    bag = torch.repeat_interleave(torch.arange(len(lengths), device=offsets.device), lengths)
    divides = combiner in ("mean", "sqrtn")
    if weights is None:
        divisor = (lengths.float() if combiner == "mean" else lengths.float().sqrt()) if divides else None
        return Bags(
            bag,
            torch.ones(len(bag), dtype=torch.float32, device=offsets.device),
            _inverse(divisor, lengths),
            None,
            offsets,
        )
    weights = weights.float()
    if not divides:
        return Bags(bag, weights, _inverse(None, lengths), None, offsets)
    return _lifted(bag, weights, offsets, combiner)


def _inverse(divisor: Tensor | None, lengths: Tensor) -> Tensor:
    if divisor is None:
        return torch.ones(len(lengths), dtype=torch.float32, device=lengths.device)
    return torch.where(divisor.abs() >= LEAST, 1 / divisor, 0)


def _lifted(bag: Tensor, weights: Tensor, offsets: Tensor, combiner: str) -> Bags:
    """Weights brought to about 1 by a power of two a bag, exactly; see the contract's pool."""
    top = lift = None
    if not _plain(weights):
        size = weights.contiguous().view(torch.int32) & 0x7FFFFFFF  # |weight| in order, NaN last
        top = size.new_zeros(len(offsets) - 1).scatter_reduce_(0, bag, size, "amax")
        lift = ((253 - (top >> 23).clamp(1, 252)) << 23).view(torch.float32)
        weights = weights * lift[bag]
    total = ordered_sum((weights if combiner == "mean" else weights * weights)[:, None], offsets)[:, 0]
    inverse = _inverse(total if combiner == "mean" else total.sqrt(), offsets[1:])
    inverse = inverse if top is None else torch.where(top < 0x7F800000, inverse, torch.nan)
    return Bags(bag, weights, inverse, lift, offsets)


def _plain(weights: Tensor) -> bool:
    """Whether lifting changes no bit: all weights are 0 or of ordinary size. Checked on a CPU alone, for it syncs a GPU."""
    if weights.device.type != "cpu" or not len(weights):
        return not len(weights)
    low, high = map(float, weights.aminmax())
    if not (low >= PLAIN[0] and high <= PLAIN[1]):
        low, high = map(float, torch.where(weights == 0, 1, weights).abs().aminmax())
    return low >= PLAIN[0] and high <= PLAIN[1]


def ordered_sum(vectors: Tensor, offsets: Tensor, index: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
    """Σ scale[i] · vectors[index[i]] over offsets[b] ≤ i < offsets[b + 1], in order, float32 [B, D]."""
    index = torch.arange(int(offsets[-1]), device=offsets.device) if index is None else index.long()
    if len(index) == 0:
        return vectors.new_zeros(len(offsets) - 1, vectors.shape[1], dtype=torch.float32)
    return F.embedding_bag(
        index, vectors.float(), offsets, mode="sum", per_sample_weights=scale, include_last_offset=True
    )


def pool(
    rows: Tensor,
    inverse: Tensor,
    offsets: Tensor,
    weights: Tensor | None = None,
    *,
    combiner: str = "sum",
    tile_len: int | None = None,
) -> Tensor:
    """See backends.interface.Backend.pool."""
    b = bags(offsets, weights, combiner)
    if combiner == "none":
        return (rows[inverse.long()].float() * b.weights[:, None]).to(rows.dtype)
    if combiner == "tile":
        return _tile(rows, inverse, b, tile_len or 1).to(rows.dtype)
    summed = ordered_sum(rows, b.offsets, inverse, None if weights is None else b.weights)
    return summed.to(rows.dtype) if combiner == "sum" else (summed * b.inverse[:, None]).to(rows.dtype)


def _tile(rows: Tensor, inverse: Tensor, b: Bags, tile_len: int) -> Tensor:
    out = rows.new_zeros((len(b.inverse), tile_len, rows.shape[1]), dtype=torch.float32)
    inside = position(b) < tile_len
    laid = rows[inverse.long()[inside]].float() * b.weights[inside, None]
    out[b.bag[inside], position(b)[inside]] = laid
    return out.flatten(1)


def position(b: Bags) -> Tensor:
    """The position of each occurrence in its bag, int64 [N]."""
    return torch.arange(len(b.bag), device=b.bag.device) - b.offsets[b.bag]


@dataclass(frozen=True)
class Terms:
    """The gradient of one request, occurrence by occurrence: scale[i] · vectors[source[i]]."""

    vectors: Tensor  # float32 [·, D]
    source: Tensor  # int64 [N]
    scale: Tensor  # float32 [N]


def grad_terms(grad: Tensor, b: Bags, combiner: str, tile_len: int | None, dim: int) -> Terms:
    """Which output gradient reaches each occurrence, and by what factor."""
    grad = grad.float()
    if combiner == "none":
        return Terms(grad, torch.arange(len(b.bag), device=grad.device), b.weights)
    if combiner != "tile":
        return Terms(grad, b.bag, b.weights * b.inverse[b.bag])
    inside = position(b) < (tile_len or 1)
    source = torch.where(inside, b.bag * (tile_len or 1) + position(b), 0)
    return Terms(grad.reshape(-1, dim), source, torch.where(inside, b.weights, 0))


def sum_by_row(terms: Terms, inverse: Tensor, count: int) -> Tensor:
    """float32 [count, D]: occurrences of a row in order, in chunks of SUM_CHUNK, then the chunks in order."""
    order = torch.argsort(inverse, stable=True)
    lengths = torch.bincount(inverse, minlength=count)
    chunks = (lengths + placement.SUM_CHUNK - 1) // placement.SUM_CHUNK
    partials = ordered_sum(terms.vectors, _chunk_offsets(lengths, chunks), terms.source[order], terms.scale[order])
    return ordered_sum(partials, _offsets(chunks))


def _offsets(lengths: Tensor) -> Tensor:
    return F.pad(lengths.cumsum(0), (1, 0))


def _chunk_offsets(lengths: Tensor, chunks: Tensor) -> Tensor:
    """Bounds of all chunks: a row's segment is cut every SUM_CHUNK occurrences from its start."""
    row = torch.repeat_interleave(torch.arange(len(chunks), device=chunks.device), chunks)
    nth = torch.arange(len(row), device=chunks.device) - _offsets(chunks)[row]
    return F.pad(_offsets(lengths)[row] + nth * placement.SUM_CHUNK, (0, 1), value=int(lengths.sum()))


def weights_grad(grad: Tensor, rows: Tensor, inverse: Tensor, b: Bags, terms: Terms, combiner: str) -> Tensor:
    """d loss / d weights, float32 [N]. With s = Σ w·e and out = s / n:
    sum e·g; mean (e − out)·g / n; sqrtn e·g / n − w · out·g / n²; a zero divisor gives 0. w and n are lifted.
    """
    dots = (rows[inverse.long()].float() * terms.vectors[terms.source]).sum(1)
    if combiner == "tile":
        return torch.where(position(b) < grad.shape[1] // rows.shape[1], dots, 0)
    if combiner in ("sum", "none"):
        return dots
    out = ordered_sum(rows, b.offsets, inverse, b.weights) * b.inverse[:, None]
    shared = ((out * grad.float()).sum(1) * b.inverse)[b.bag]
    direct = dots * b.inverse[b.bag]
    slope = direct - shared if combiner == "mean" else direct - b.weights * shared * b.inverse[b.bag]
    return slope if b.lift is None else slope * b.lift[b.bag]


def pool_grad(
    grad: Tensor,
    rows: Tensor,
    inverse: Tensor,
    offsets: Tensor,
    weights: Tensor | None = None,
    *,
    combiner: str = "sum",
    tile_len: int | None = None,
    weights_need_grad: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """See backends.interface.Backend.pool_grad."""
    b = bags(offsets, weights, combiner)
    terms = grad_terms(grad, b, combiner, tile_len, rows.shape[1])
    by_row = sum_by_row(terms, inverse, len(rows))
    return by_row, weights_grad(grad, rows, inverse, b, terms, combiner) if weights_need_grad else None
