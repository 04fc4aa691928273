"""Offsets of many columns as those of one. Sizes: C columns, B rows of a column."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from recis_core.hashing.columns import check_dtype, device_of
from recis_core.ragged.offsets import check_content


def merge_offsets(offsets: Sequence[Tensor]) -> Tensor:
    """Offsets of all rows, when the values of the columns lie one after another.

        0 2 5 7   and   0 3 6   →   0 2 5 7 10 13

    Args:
      offsets: int64 or int32 [B + 1] of each column, from 0 on; B may differ.

    Returns:
      int64 [Σ B + 1]; of no columns [0].

    Raises:
      TypeError: dtypes. ValueError: shapes or devices; offsets that decrease or do not begin at 0, which other devices than the
        CPU check under RECIS_CHECK=1.
    """
    levels = list(offsets)
    device = device_of(levels, "offsets")
    check_dtype(levels, (torch.int64, torch.int32), "offsets")
    for level in levels:
        if level.dim() != 1 or len(level) == 0:
            raise ValueError(f"offsets must be [B + 1], [0] for no rows; got shape {tuple(level.shape)}.")
        if device.type == "cpu" or os.environ.get("RECIS_CHECK") == "1":
            check_content([level], int(level[-1]))
    start = torch.zeros(1, dtype=torch.int64, device=device)
    if not levels:
        return start
    ends = torch.stack([level[-1].long() for level in levels]).cumsum(0)
    begins = torch.cat([start, ends[:-1]])
    return torch.cat([start, *(level[1:] + begins[c] for c, level in enumerate(levels))])
