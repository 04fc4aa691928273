"""Positions in rows that were cut, as places of values before the cut. Sizes: R rows, B chosen rows, K positions of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor

from recis_core.hashing.columns import as_columns, check_dtype, device_of, each, is_many, runs_loops
from recis_core.ragged.functional.cut_off import LEFT, RIGHT, Side, is_left
from recis_core.ragged.functional.segment_sum import check_range
from recis_core.ragged.offsets import check_content

INTEGERS = (torch.int64, torch.int32)


@overload
def topk_index_cut_off(
    offsets: Tensor,
    topk_index: Tensor,
    indicator: Tensor,
    drop_nums: Tensor,
    pad_nums: Tensor | None = None,
    drop_side: Side = LEFT,
    pad_side: Side = RIGHT,
) -> tuple[Tensor, Tensor]: ...
@overload
def topk_index_cut_off(
    offsets: Sequence[Tensor],
    topk_index: Sequence[Tensor],
    indicator: Sequence[Tensor],
    drop_nums: Sequence[Tensor],
    pad_nums: Sequence[Tensor] | None = None,
    drop_side: Side | Sequence[Side] = LEFT,
    pad_side: Side | Sequence[Side] = RIGHT,
) -> list[tuple[Tensor, Tensor]]: ...
def topk_index_cut_off(
    offsets: Any,
    topk_index: Any,
    indicator: Any,
    drop_nums: Any,
    pad_nums: Any = None,
    drop_side: Any = LEFT,
    pad_side: Any = RIGHT,
) -> Any:
    """Where the values are that a search in cut rows has chosen, such as the k most similar clicks of a long history.

        offsets 0 8 10 13   drop_nums 5 0 0 from the left   topk_index [1 2] [0 2] [0 1]   →   places 6 7 | 8 | 10 11

    The search saw rows of equal length, cut and padded as `cut_off_2d` and `to_dense` make them; `pad_info` has drop_nums and
    pad_nums. A position that is padding, or outside of what stayed of the row, is left out.

    Args:
      offsets: integers [R + 1], of the rows before the cut.
      topk_index: integers [B, K], positions in cut rows.
      indicator: integers [B], which row each is of, 0 to R - 1.
      drop_nums, pad_nums: integers [R], how much each row lost and was padded; None for no padding at the left.
      drop_side, pad_side: "left" or "right"; True stands for left. Padding at the right moves nothing.
      Or lists, one entry a column.

    Returns:
      (places int64 [M] in the values before the cut, offsets int64 [B + 1] of them); for columns a list.

    Raises:
      TypeError: dtypes. ValueError: shapes or rows do not fit; pad_side is left, and pad_nums are missing.

    As RecIS's ragged_topk_index_cutoff, which knows the sides left and right alone.
    """
    if not is_many(offsets):
        return _one(offsets, topk_index, indicator, drop_nums, pad_nums, drop_side, pad_side)
    count = len(offsets)
    lists = [each(as_columns(found), count, "arguments") for found in (topk_index, indicator, drop_nums)]
    lists += [each(found, count, "arguments") for found in (pad_nums, drop_side, pad_side)]
    return [_one(*column) for column in zip(offsets, *lists, strict=True)]


def _one(
    offsets: Tensor, topk: Tensor, indicator: Tensor, drop: Tensor, pad: Tensor | None, drop_side: Side, pad_side: Side
) -> tuple[Tensor, Tensor]:
    drop_left, pad_left = is_left(drop_side, "drop_side"), is_left(pad_side, "pad_side")
    _check(offsets, topk, indicator, drop, pad)
    if pad_left and pad is None:
        raise ValueError("pad_nums must say how much each row was padded where pad_side is left; got None.")
    offsets, drop = offsets.long(), drop.long()
    first, last = (offsets[:-1] + drop, offsets[1:]) if drop_left else (offsets[:-1], offsets[1:] - drop)
    shift = first - pad.long() if pad_left and pad is not None else first
    found = _by_loops if runs_loops(offsets.device) else _by_torch
    return found(topk.long(), indicator.long(), first, last, shift)


def _check(offsets: Tensor, topk: Tensor, indicator: Tensor, drop: Tensor, pad: Tensor | None) -> None:
    tensors = [offsets, topk, indicator, drop, *([] if pad is None else [pad])]
    device = device_of(tensors, "arguments")
    check_dtype(tensors, INTEGERS, "arguments")
    rows = (max(len(offsets) - 1, 0),)
    if offsets.dim() != 1 or len(offsets) == 0 or topk.dim() != 2 or indicator.shape != topk.shape[:1]:
        shapes = f"{tuple(offsets.shape)}, {tuple(topk.shape)} and {tuple(indicator.shape)}"
        raise ValueError(f"offsets must be [R + 1], topk_index [B, K] and indicator [B]; got {shapes}.")
    if any(numbers.shape != rows for numbers in tensors[3:]):
        raise ValueError(
            f"drop_nums and pad_nums must have one entry a row, {rows}; got {[tuple(t.shape) for t in tensors[3:]]}."
        )
    if device.type == "cpu" or os.environ.get("RECIS_CHECK") == "1":
        check_content([offsets], int(offsets[-1]))
        check_range(indicator, rows[0], "indicator")


def _by_loops(topk: Tensor, indicator: Tensor, first: Tensor, last: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    from recis_core.backends.column_loops.topk_index_cut_off import list_places  # loads numba

    places, new = (torch.empty(n, dtype=torch.int64, device="cpu") for n in (topk.numel(), len(topk) + 1))
    arrays = [t.contiguous().numpy() for t in (topk, indicator, first, last, shift)]
    count = list_places(*arrays, places.numpy(), new.numpy())
    return places[:count], new


def _by_torch(topk: Tensor, indicator: Tensor, first: Tensor, last: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    at = topk + shift[indicator][:, None]
    there = (topk >= 0) & (at >= first[indicator][:, None]) & (at < last[indicator][:, None])
    counts = there.sum(1)
    return at[there], torch.cat([counts.new_zeros(1), counts.cumsum(0)])
