"""Ragged to dense and back; both keep gradients of values.

Sizes: N values, B rows, K ragged levels, L the longest row of a level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recis_core.ragged.offsets import MAX_LEVELS, as_offsets, coordinates, longest


def ragged_to_dense(
    values: Tensor, offsets: Tensor | Sequence[Tensor], default_value: float = 0, *, shape: Sequence[int] | None = None
) -> Tensor:
    """Rows of unequal length as a rectangle, padded at the end with `default_value`.

    values 1 3 6 7 8   offsets 0 2 2 5   →   1 3 0 / 0 0 0 / 6 7 8

    Args:
      values: [N] or [N, ...], any dtype; gradients flow back.
      offsets: [B + 1], or up to five levels outer to inner.
      shape: sizes of the B and K ragged dimensions, -1 for as large as needed. None is -1 for all.

    Returns:
      [B, L_1, ..., L_K, ...] in the dtype of values.

    Raises:
      ValueError: offsets do not fit values, or `shape` is smaller than the longest row.
    """
    levels = as_offsets(offsets, values)
    sizes = _fitting_sizes(levels, [-1] * (len(levels) + 1) if shape is None else list(shape))
    flat = torch.zeros(len(values), dtype=torch.int64, device=values.device)
    for index, size in zip(coordinates(levels, len(values)), sizes, strict=True):
        flat = flat * size + index
    cells = int(torch.Size(sizes).numel())
    out = torch.full((cells, *values.shape[1:]), default_value, dtype=values.dtype, device=values.device)
    return out.index_copy(0, flat, values).reshape(*sizes, *values.shape[1:])


def _fitting_sizes(levels: list[Tensor], wanted: list[int]) -> list[int]:
    if len(wanted) != len(levels) + 1:
        raise ValueError(f"shape must have {len(levels) + 1} sizes, rows and one a ragged level; got {tuple(wanted)}.")
    needed = [len(levels[0]) - 1, *(longest(offsets) for offsets in levels)]
    for k, (size, need) in enumerate(zip(wanted, needed, strict=True)):
        if size != -1 and size < need:
            raise ValueError(
                f"dense_shape[{k}] must be at least {need}, the longest there is; got {size}. "
                "Truncate the rows first (SequenceTruncate) or leave the size at -1."
            )
    return [need if size == -1 else size for size, need in zip(wanted, needed, strict=True)]


def dense_to_ragged(
    dense: Tensor, check_invalid: bool = False, invalid_value: float = 0
) -> tuple[Tensor, list[Tensor]]:
    """Cut a rectangle into rows; `check_invalid` removes the trailing run of `invalid_value` of each row.

    1 0 3 0 0 / 6 7 8 0 0   →   values 1 0 3 6 7 8   offsets 0 3 6        (checked; the 0 inside stays)
                            →   all ten values       offsets 0 5 10       (unchecked)

    Args:
      dense: [B, L] or deeper; innermost rows are cut, outer levels stay as they are.
      invalid_value: the value of padding; may be NaN.

    Returns:
      values [N] and int64 offsets, outer to inner, one level less than dimensions.
    """
    if not 2 <= dense.dim() <= MAX_LEVELS + 1:
        raise ValueError(
            f"dense must have 2 to {MAX_LEVELS + 1} dimensions, rows first; got shape {tuple(dense.shape)}."
        )
    outer = [_regular(dense.shape[: k + 1], size, dense.device) for k, size in enumerate(dense.shape[1:-1])]
    if not check_invalid:
        return dense.reshape(-1), [*outer, _regular(dense.shape[:-1], dense.shape[-1], dense.device)]
    rows = dense.reshape(torch.Size(dense.shape[:-1]).numel(), dense.shape[-1])
    valid = ~rows.isnan() if invalid_value != invalid_value else rows != invalid_value
    position = torch.arange(1, rows.shape[1] + 1, device=dense.device)
    lengths = (valid * position).amax(1) if rows.shape[1] else position.new_zeros(len(rows))
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return rows[position <= lengths[:, None]], [*outer, offsets]


def _regular(rows: Sequence[int], length: int, device: torch.device) -> Tensor:
    return torch.arange(torch.Size(rows).numel() + 1, device=device) * length
