"""Offsets: their checks, and the place of each value in the dense tensor.

Sizes: N values, B rows, K ragged levels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8)
MAX_LEVELS = 5


def as_offsets(offsets: Tensor | Sequence[Tensor], values: Tensor) -> list[Tensor]:
    """One tensor or a list outer→inner, checked against values, as a list of int64 tensors.

    Offsets' values are checked on the CPU; on other devices only under RECIS_CHECK=1, for reading waits for the device.
    """
    levels = [offsets] if isinstance(offsets, Tensor) else list(offsets)
    if not 1 <= len(levels) <= MAX_LEVELS:
        raise ValueError(f"offsets must have 1 to {MAX_LEVELS} levels, outer to inner; got {len(levels)}.")
    for level in levels:
        _check_kind(level, values)
    levels = [level.to(torch.int64) for level in levels]
    if values.device.type == "cpu" or os.environ.get("RECIS_CHECK") == "1":
        check_content(levels, len(values))
    return levels


def _check_kind(offsets: Tensor, values: Tensor) -> None:
    if not isinstance(offsets, Tensor):
        raise TypeError(f"offsets must be a tensor or a list of tensors; got {type(offsets).__name__}.")
    if offsets.dtype not in INTEGERS:
        raise TypeError(f"offsets must be integers; got {offsets.dtype}.")
    if offsets.dim() != 1 or len(offsets) == 0:
        raise ValueError(f"offsets must be one-dimensional [B + 1], [0] for no rows; got shape {tuple(offsets.shape)}.")
    if offsets.device != values.device:
        raise ValueError(
            f"offsets must be on the device of values, {values.device}; got {offsets.device}. Move them with .to()."
        )


def check_content(levels: list[Tensor], values: int) -> None:
    """Raises ValueError unless each level rises from 0 to the rows of the next level, the innermost to `values`."""
    wants = [(len(inner) - 1, "the rows of the next level") for inner in levels[1:]] + [(values, "len(ids)")]
    for offsets, (end, meaning) in zip(levels, wants, strict=True):
        first, last = int(offsets[0]), int(offsets[-1])
        if first != 0:
            raise ValueError(f"offsets must begin at 0; got offsets[0] = {first}.")
        if last != end:
            raise ValueError(f"offsets must end at {meaning} = {end}; got offsets[-1] = {last}.")
        falls = offsets[1:] < offsets[:-1]
        if bool(falls.any()):
            at = int(falls.nonzero()[0])
            raise ValueError(
                f"offsets must not decrease; got offsets[{at}] = {int(offsets[at])}, "
                f"offsets[{at + 1}] = {int(offsets[at + 1])}."
            )


def longest(offsets: Tensor) -> int:
    """The length of the longest row; waits for the device."""
    return int(offsets.diff().max()) if len(offsets) > 1 else 0


def rows_of(offsets: Tensor, count: int) -> Tensor:
    """int64 [count]: the row of each of `count` children."""
    rows = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(rows, offsets.diff(), output_size=count)


def coordinates(levels: list[Tensor], count: int) -> list[Tensor]:
    """K + 1 tensors int64 [N], outer to inner: each value's index in every dimension of the dense tensor."""
    found = [torch.arange(len(levels[0]) - 1, device=levels[0].device)]
    for k, offsets in enumerate(levels):
        children = len(levels[k + 1]) - 1 if k + 1 < len(levels) else count
        rows = rows_of(offsets, children)
        position = torch.arange(children, device=offsets.device) - offsets[rows]
        found = [index[rows] for index in found] + [position]
    return found


def cut_levels(levels: Sequence[Tensor], begin: int, end: int) -> tuple[list[Tensor], int, int]:
    """(offsets of rows begin .. end, from 0 anew; the first of their values; the one behind the last)."""
    found = []
    for offsets in levels:
        if offsets.device.type == "cpu":  # of few rows numpy makes the same in a third of the time
            edges = offsets.numpy()[begin : end + 1]
            begin, end = int(edges[0]), int(edges[-1])
            found.append(torch.from_numpy(edges - begin))
            continue
        level = offsets[begin : end + 1]
        begin, end = int(level[0]), int(level[-1])
        found.append(level - begin)
    return found, begin, end


def joined_levels(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The offsets of runs of rows, of equal numbers of levels, one after another."""
    return [_end_to_end(levels) for levels in zip(*parts, strict=True)]


def _end_to_end(levels: Sequence[Tensor]) -> Tensor:
    """Offsets of runs of rows, as those of all rows."""
    if levels[0].device.type == "cpu":
        return torch.from_numpy(_end_to_end_arrays([level.numpy() for level in levels]))
    ends, found = torch.zeros_like(levels[0][:1]), [levels[0][:1]]
    for level in levels:
        found.append(level[1:] + ends)
        ends = ends + level[-1:]
    return torch.cat(found)


def _end_to_end_arrays(levels: list[np.ndarray]) -> np.ndarray:
    out, at = np.zeros(1 + sum(len(level) - 1 for level in levels), np.int64), 1
    for level in levels:
        np.add(level[1:], out[at - 1], out=out[at : at + len(level) - 1])
        at += len(level) - 1
    return out
