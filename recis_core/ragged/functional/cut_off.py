"""Rows cut to a length. Sizes: C columns, B rows, N values of a column."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from recis_core.hashing.columns import (
    addresses,
    as_columns,
    column_of_each,
    device_of,
    each,
    is_many,
    runs_loops,
    starts_of,
)
from recis_core.ragged.functional.columns import refusal
from recis_core.ragged.offsets import rows_of
from recis_core.ragged.tensor import RaggedPadInfo, RaggedTensor

Side = str | bool
LEFT, RIGHT = "left", "right"


class Kept(NamedTuple):
    """What stays of one level of a column."""

    offsets: Tensor  # int64 [B + 1]
    child: Tensor  # int64 [new N], which child each is; -1 for an empty one
    dropped: Tensor  # int64 [B]
    padded: Tensor  # int64 [B]


@overload
def cut_off_2d(
    x: RaggedTensor, keep_lengths: int, drop_sides: Side = RIGHT, pad_sides: Side = RIGHT
) -> RaggedTensor: ...
@overload
def cut_off_2d(
    x: Sequence[RaggedTensor],
    keep_lengths: int | Sequence[int],
    drop_sides: Side | Sequence[Side] = RIGHT,
    pad_sides: Side | Sequence[Side] = RIGHT,
) -> list[RaggedTensor]: ...
def cut_off_2d(x: Any, keep_lengths: Any, drop_sides: Any = RIGHT, pad_sides: Any = RIGHT) -> Any:
    """Each innermost row cut to a length; shorter rows stay as they are.

        keep 3, drop left:   [9 11 12 | 20 21 | 30 31 32 33]   →   [9 11 12 | 20 21 | 31 32 33]

    Args:
      x: a RaggedTensor, or a list of them.
      keep_lengths: how many values of a row stay, from 0 on.
      drop_sides: "left" drops a row's first values, "right" its last; True stands for left, as in RecIS.
      pad_sides: the side at which a dense picture is to be padded, noted in pad_info alone.
      For columns each is one for all, or a list.

    Returns:
      A RaggedTensor whose weights are cut with their ids; the dense size of its last dimension is keep_lengths, and `pad_info`
      says how much each row lost and lacks. Gradients flow to values and weights. For columns a list, in one call.

    Raises:
      TypeError: x is no RaggedTensor. ValueError: a length is negative, or a side neither left nor right.
    """
    return _cut_off(x, keep_lengths, drop_sides, pad_sides, inner=True)


@overload
def cut_off_3d(
    x: RaggedTensor, keep_lengths: int, drop_sides: Side = RIGHT, pad_sides: Side = RIGHT
) -> RaggedTensor: ...
@overload
def cut_off_3d(
    x: Sequence[RaggedTensor],
    keep_lengths: int | Sequence[int],
    drop_sides: Side | Sequence[Side] = RIGHT,
    pad_sides: Side | Sequence[Side] = RIGHT,
) -> list[RaggedTensor]: ...
def cut_off_3d(x: Any, keep_lengths: Any, drop_sides: Any = RIGHT, pad_sides: Any = RIGHT) -> Any:
    """Rows of rows cut, or filled with empty rows, to as many inner rows each.

        keep 2, both left:   [[10] [11 12] []]  [[14 15]]   →   [[11 12] []]  [[] [14 15]]

    The last but one level then is 0, k, 2k, …, so that pooling gives a rectangle [B, k, D]. Empty inner rows count as rows.

    Args:
      x: a RaggedTensor of two levels or more, or a list of them.
      keep_lengths: k, from 0 on. Else as in `cut_off_2d`; pad_sides is the side at which empty rows are put.

    Returns:
      A RaggedTensor whose weights are cut with their ids; the dense size of its last dimension but one is k.

    Raises:
      As `cut_off_2d`; ValueError for a RaggedTensor of one level.
    """
    return _cut_off(x, keep_lengths, drop_sides, pad_sides, inner=False)


def _cut_off(x: Any, keep_lengths: Any, drop_sides: Any, pad_sides: Any, inner: bool) -> Any:
    columns = as_columns(x)
    keeps = [_checked_length(k) for k in each(keep_lengths, len(columns), "keep_lengths")]
    drops = [is_left(s, "drop_sides") for s in each(drop_sides, len(columns), "drop_sides")]
    pads = [is_left(s, "pad_sides") for s in each(pad_sides, len(columns), "pad_sides")]
    _check_columns(columns, 1 if inner else 2)
    by_loops = bool(columns) and runs_loops(columns[0].device)
    cut = (_inner if inner else _outer)(columns, keeps, drops, pads, by_loops)
    return cut if is_many(x) else cut[0]


def _checked_length(keep: Any) -> int:
    if isinstance(keep, bool) or int(keep) != keep or keep < 0:
        raise ValueError(f"keep_lengths must be integers from 0 on; got {keep!r}.")
    return int(keep)


def is_left(side: Any, name: str) -> bool:
    """Whether a side is the left one, checked."""
    if side not in (LEFT, RIGHT, True, False):
        raise ValueError(f"{name} must be {LEFT!r} or {RIGHT!r}, or a bool, True for left; got {side!r}.")
    return side in (LEFT, True)


def _check_columns(columns: list[Any], levels: int) -> None:
    for column in columns:
        if not isinstance(column, RaggedTensor):
            raise TypeError(f"x must be a RaggedTensor, or a list of them; got {type(column).__name__}.")
        if len(column.offsets()) < levels:
            raise ValueError("x must have two levels of offsets, rows of rows; got one. cut_off_2d cuts simple rows.")
    device_of([column.values() for column in columns], "x")


def _inner(
    columns: list[RaggedTensor], keeps: list[int], drops: list[bool], pads: list[bool], by_loops: bool
) -> list[RaggedTensor]:
    levels = [column.offsets()[-1] for column in columns]
    sizes_of = [len(column.values()) for column in columns]
    kept = kept_of(levels, sizes_of, keeps, drops, [False] * len(keeps), False, by_loops)
    made, sides = [], _side_tensors(columns, drops, pads)
    for column, k, found, side in zip(columns, keeps, kept, sides, strict=True):
        sizes = [*column._dense_shape[:-1], k]
        made.append(_rebuilt(column, [*column.offsets()[:-1], found.offsets], found.child, sizes))
        made[-1].set_pad_info(RaggedPadInfo([found.dropped], [found.padded], *side))
    return made


def _outer(
    columns: list[RaggedTensor], keeps: list[int], drops: list[bool], pads: list[bool], by_loops: bool
) -> list[RaggedTensor]:
    levels = [column.offsets()[-1] for column in columns]
    outer = [column.offsets()[-2] for column in columns]
    rows = kept_of(outer, [len(level) - 1 for level in levels], keeps, drops, pads, True, by_loops)
    sizes_of = [len(column.values()) for column in columns]
    inner = chosen_rows(levels, sizes_of, [found.child for found in rows], by_loops)
    made, sides = [], _side_tensors(columns, drops, pads)
    for column, k, found, (offsets, index), side in zip(columns, keeps, rows, inner, sides, strict=True):
        sizes = [*column._dense_shape[:-2], k, column._dense_shape[-1]]
        made.append(_rebuilt(column, [*column.offsets()[:-2], found.offsets, offsets], index, sizes))
        made[-1].set_pad_info(RaggedPadInfo([found.dropped], [found.padded], *side))
    return made


def _side_tensors(columns: list[RaggedTensor], drops: list[bool], pads: list[bool]) -> list[tuple[Tensor, ...]]:
    """(drop_sides, pad_sides) of each column, bool [1], True for left."""
    device = columns[0].device if columns else torch.device("cpu")
    both = [torch.tensor(sides, dtype=torch.bool, device=device)[:, None].unbind() for sides in (drops, pads)]
    return list(zip(*both, strict=True))


def _rebuilt(column: RaggedTensor, levels: list[Tensor], index: Tensor, sizes: list[int]) -> RaggedTensor:
    """The column with these levels, of the values at `index`."""
    weight = column.weight()
    kept = None if weight is None else weight.index_select(0, index)
    made = column._like(column.values().index_select(0, index), levels, kept)
    made._dense_shape = tuple(sizes)
    return made


def kept_of(
    levels: list[Tensor],
    children: list[int],
    keeps: list[int],
    drops: list[bool],
    pads: list[bool],
    fill: bool,
    by_loops: bool,
) -> list[Kept]:
    """Which children of each row stay, of so many of each column; with `fill` short rows are filled up by -1."""
    if not by_loops:
        return _kept_by_torch(levels, keeps, drops, pads, fill) if levels else []
    from recis_core.backends.column_loops import cut_off as loops  # loads numba

    levels = [level.contiguous() for level in levels]
    rows = starts_of([len(level) - 1 for level in levels])
    flags = np.array([drops, pads], np.bool_)
    sizes = np.array(children, np.int64)
    found = loops.kept_of(addresses(levels), sizes, rows, np.array(keeps, np.int64), flags[0], flags[1], fill)
    if isinstance(found, int):
        raise refusal([levels[found]], children[found])
    return [Kept(*map(torch.from_numpy, parts)) for parts in found]


def _kept_by_torch(
    levels: list[Tensor], keeps: list[int], drops: list[bool], pads: list[bool], fill: bool
) -> list[Kept]:
    """All rows of all columns at once; children are counted in their column."""
    column = column_of_each([level[1:] for level in levels])
    keep, drop_left, pad_left = (torch.tensor(found, device=column.device)[column] for found in (keeps, drops, pads))
    lengths, first = torch.cat([level.diff() for level in levels]), torch.cat([level[:-1] for level in levels])
    dropped, padded = (lengths - keep).clamp(min=0), (keep - lengths).clamp(min=0)
    shift = dropped.where(drop_left, 0) - (padded.where(pad_left, 0) if fill else 0)
    running, parts, row, place = _laid_out(keep if fill else torch.minimum(lengths, keep), levels)
    child = place + shift[row]
    there = (child >= 0) & (child < lengths[row])
    children = (child + first[row]).where(there, -1).split(parts)
    rows = [len(level) - 1 for level in levels]
    return [Kept(*found) for found in zip(running, children, dropped.split(rows), padded.split(rows), strict=True)]


def _laid_out(sizes: Tensor, rows: list[Tensor]) -> tuple[list[Tensor], list[int], Tensor, Tensor]:
    """Rows of these sizes one after another, those of each column as many as `rows` has but one.

    Returns the offsets of each column, how many entries it has, and of all entries the row and the place in it.
    """
    running = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    begins = starts_of([len(level) - 1 for level in rows])
    ends = running[torch.tensor(begins, device=sizes.device)].tolist()
    row = rows_of(running, ends[-1])
    place = torch.arange(len(row), device=sizes.device) - running[row]
    offsets = [running[b : e + 1] - at for b, e, at in zip(begins[:-1], begins[1:], ends, strict=False)]
    return offsets, [end - beg for beg, end in pairwise(ends)], row, place


def chosen_rows(
    levels: list[Tensor], values: list[int], rows: list[Tensor], by_loops: bool
) -> list[tuple[Tensor, Tensor]]:
    """Of each column (offsets, and the places of values) of chosen rows of a level; row -1 is empty."""
    if not by_loops:
        return _chosen_by_torch(levels, rows) if levels else []
    from recis_core.backends.column_loops import cut_off as loops  # loads numba

    levels, rows = [level.contiguous() for level in levels], [chosen.contiguous() for chosen in rows]
    starts = starts_of([len(chosen) for chosen in rows])
    found = loops.chosen_rows(addresses(levels), np.array(values, np.int64), addresses(rows), starts)
    if isinstance(found, int):
        raise refusal([levels[found]], values[found])
    return [(torch.from_numpy(offsets), torch.from_numpy(index)) for offsets, index in found]


def _chosen_by_torch(levels: list[Tensor], rows: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    column, begins = column_of_each(rows), starts_of([len(level) - 1 for level in levels])
    none = levels[0].new_zeros(1)  # behind all rows an empty one, for -1
    lengths, first = (
        torch.cat([*(level.diff() for level in levels), none]),
        torch.cat([*(level[:-1] for level in levels), none]),
    )
    chosen = torch.cat(rows)
    at = (chosen + torch.tensor(begins[:-1], device=none.device)[column]).where(chosen >= 0, int(begins[-1]))
    offsets, parts, row, place = _laid_out(lengths[at], [torch.cat([none, found]) for found in rows])
    return list(zip(offsets, (place + first[at][row]).split(parts), strict=True))
