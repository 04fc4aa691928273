"""Rows of vectors as tiles of fixed length. Sizes: G groups, B rows of all groups, N indices, V vectors, D dim, T tile rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recis_core.hashing.columns import check_dtype, device_of, runs_loops
from recis_core.ragged.functional.segment_sum import FLOATS, check_range, ordered_sum
from recis_core.ragged.offsets import check_content


def ragged_tile(batch: Sequence[int], seq: Sequence[int], indices: Tensor, offsets: Tensor, table: Tensor) -> Tensor:
    """Each row's first vectors, filled up with zeros to its group's length.

        batch 2 1   seq 3 4   indices 0 1 0 1   offsets 0 2 3 4   table a b   →   a b 0 | a 0 0 | b 0 0 0

    A group is what one feature has in a batch; the rows of all groups lie one after another.

    Args:
      batch: how many rows each group has.
      seq: how many vectors each row of a group gets.
      indices: integers [N], 0 to V - 1; those past the last offset are not used.
      offsets: integers [B + 1] from 0 on, B the sum of batch.
      table: floating [V, D].

    Returns:
      [Σ batch · seq, D] in table's dtype. Gradients flow to table, summed in a fixed order (see segment_sum).

    Raises:
      TypeError: dtypes. ValueError: lengths, offsets or indices do not fit; on other devices than the CPU what lies in tensors
        is checked under RECIS_CHECK=1.
    """
    _check(batch, seq, indices, offsets, table)
    indices, offsets = indices.long().contiguous(), offsets.long().contiguous()
    place = (_places_by_loops if runs_loops(table.device) else _places_by_torch)(batch, seq, offsets)
    made: Tensor = _Tile.apply(table, indices, place)
    return made


def _check(batch: Sequence[int], seq: Sequence[int], indices: Tensor, offsets: Tensor, table: Tensor) -> None:
    device = device_of([table, indices, offsets], "table, indices and offsets")
    check_dtype([table], FLOATS, "table")
    check_dtype([indices, offsets], (torch.int64, torch.int32), "indices and offsets")
    if len(batch) != len(seq) or any(n < 0 for n in [*batch, *seq]):
        raise ValueError(f"batch and seq must be as many integers from 0 on each; got {list(batch)} and {list(seq)}.")
    if table.dim() != 2 or indices.dim() != 1 or offsets.dim() != 1 or len(offsets) != sum(batch) + 1:
        shapes = f"{tuple(table.shape)}, {tuple(indices.shape)} and {tuple(offsets.shape)}"
        raise ValueError(
            f"table must be [V, D], indices [N] and offsets [sum(batch) + 1] = [{sum(batch) + 1}]; got {shapes}."
        )
    if device.type == "cpu" or os.environ.get("RECIS_CHECK") == "1":
        last = int(offsets[-1])
        check_content([offsets], last)
        if last > len(indices):
            raise ValueError(f"offsets must end at len(indices) = {len(indices)} or before; got offsets[-1] = {last}.")
        check_range(indices, len(table), "indices")


def _places_by_loops(batch: Sequence[int], seq: Sequence[int], offsets: Tensor) -> Tensor:
    from recis_core.backends.column_loops.ragged_tile import tile_sources  # loads numba

    counts = [torch.tensor(numbers, dtype=torch.int64, device="cpu") for numbers in (batch, seq)]
    place = torch.empty(int((counts[0] * counts[1]).sum()), dtype=torch.int64, device="cpu")
    tile_sources(*(tensor.numpy() for tensor in (*counts, offsets, place)))
    return place


def _places_by_torch(batch: Sequence[int], seq: Sequence[int], offsets: Tensor) -> Tensor:
    device = offsets.device
    counts = [torch.tensor(numbers, dtype=torch.int64, device=device) for numbers in (batch, seq)]
    seq_of = torch.repeat_interleave(counts[1], counts[0], output_size=sum(batch))
    total = sum(b * s for b, s in zip(batch, seq, strict=True))
    row = torch.repeat_interleave(torch.arange(len(seq_of), device=device), seq_of, output_size=total)
    k = torch.arange(total, device=device) - (seq_of.cumsum(0) - seq_of)[row]
    return (offsets[row] + k).where(k < offsets.diff()[row], -1)


class _Tile(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, indices: Tensor, place: Tensor) -> Tensor:
        there = place >= 0
        at = there.nonzero()[:, 0]
        vector = indices[place[at]]
        ctx.save_for_backward(at, vector)
        ctx.count, ctx.dtype = len(table), table.dtype
        out = table.new_zeros(len(place), table.shape[1])
        out[at] = table[vector]
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        at, vector = ctx.saved_tensors
        wide = grad if grad.dtype == torch.float64 else grad.float()
        return ordered_sum(wide, None, at, vector, ctx.count).to(ctx.dtype), None, None
