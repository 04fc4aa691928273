"""Functions of rows of unequal length, given as values and offsets.

Sizes: N values, B rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recis_core import ragged
from recis_core.compat.recis.absent import refuse_name
from recis_core.ragged import RaggedTensor


def dense_to_ragged(tensor: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Values and offsets, outer to inner, of a rectangle's rows."""
    return ragged.dense_to_ragged(tensor)


def ragged_to_dense(values: Tensor, offsets: Sequence[Tensor], default_value: float) -> Tensor:
    """Rows as a rectangle, padded at the end with default_value. Raises ValueError: an offsets tensor is not 1-D."""
    return ragged.ragged_to_dense(values, list(offsets), default_value)


def ragged_to_sparse(values: Tensor, row_splits: Sequence[Tensor]) -> Tensor:
    """A torch.sparse_coo tensor of the rows.

    Raises:
      RuntimeError: there are no rows, or no row has a value.
    """
    made = RaggedTensor(values, list(row_splits)).to_sparse()
    if 0 in made.shape:
        raise RuntimeError(f"a sparse tensor needs rows and values; these rows give the shape {tuple(made.shape)}.")
    return made


def fused_ragged_cutoff_2D(  # noqa: N802, RecIS's name
    values: Sequence[Tensor], offsets: Sequence[Tensor], keep_lengths: Tensor, drop_sides: Tensor, pad_sides: Tensor
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Each column's rows cut to its keep_length, from the left where its drop_side is True. Pads nothing.

    Returns:
      values, offsets int32, and by row how many were dropped and would be padded; and the sides, of each column.

    Raises:
      ValueError: as many offsets as values are wanted, and bool sides.
    """
    _check_sides(len(values), len(offsets), drop_sides, pad_sides)
    columns = [RaggedTensor(v, o) for v, o in zip(values, offsets, strict=True)]
    drops, pads = drop_sides.tolist(), pad_sides.tolist()
    cut = ragged.cut_off_2d(columns, keep_lengths.tolist(), drops, pads)
    nums = [((c.pad_info and c.pad_info.drop_nums) or [], (c.pad_info and c.pad_info.pad_nums) or []) for c in cut]
    return (
        [c.values() for c in cut],
        [c.offsets()[-1].to(o.dtype) for c, o in zip(cut, offsets, strict=True)],
        [dropped[-1] for dropped, _ in nums],
        [padded[-1] for _, padded in nums],
        list(drop_sides.unbind()),
        list(pad_sides.unbind()),
    )


def fused_ragged_cutoff_3D(  # noqa: N802, RecIS's name
    values: Sequence[Tensor],
    offsets: Sequence[Sequence[Tensor]],
    keep_lengths: Tensor,
    drop_sides: Tensor | None = None,
    pad_sides: Tensor | None = None,
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Each column's outer rows cut, or filled with empty inner rows, to keep_length inner rows.

    offsets: [outer, inner] of each column. Returns values and [outer, inner] of each column.
    """
    outer, inner = [o[0] for o in offsets], [o[1] for o in offsets]
    cut, outer_cut, inner_cut = _fused_ragged_cutoff_3D(values, outer, inner, keep_lengths, drop_sides, pad_sides)
    return cut, [list(levels) for levels in zip(outer_cut, inner_cut, strict=True)]


def _fused_ragged_cutoff_3D(  # noqa: N802, RecIS's name
    values: Sequence[Tensor],
    outer_offsets: Sequence[Tensor],
    inner_offsets: Sequence[Tensor],
    keep_lengths: Tensor,
    drop_sides: Tensor | None = None,
    pad_sides: Tensor | None = None,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    none = torch.zeros(len(values), dtype=torch.bool)
    drops, pads = (none if sides is None else sides for sides in (drop_sides, pad_sides))
    _check_sides(len(values), len(outer_offsets), drops, pads)
    levels = zip(values, outer_offsets, inner_offsets, strict=True)
    columns = [RaggedTensor(v, [outer, inner]) for v, outer, inner in levels]
    cut = ragged.cut_off_3d(columns, keep_lengths.tolist(), drops.tolist(), pads.tolist())
    made = list(zip(cut, outer_offsets, strict=True))
    return (
        [c.values() for c in cut],
        [c.offsets()[0].to(given.dtype) for c, given in made],
        [c.offsets()[1].to(given.dtype) for c, given in made],
    )


def _check_sides(values: int, offsets: int, drop_sides: Tensor, pad_sides: Tensor) -> None:
    if values != offsets:
        raise ValueError(f"offsets must be as many as values, {values} columns; got {offsets}.")
    for name, sides in (("drop_sides", drop_sides), ("pad_sides", pad_sides)):
        if sides.dtype != torch.bool:
            raise ValueError(f"{name} must be of torch.bool; got {sides.dtype}.")


def feature_cross_ragged(
    x_val: Tensor,
    x_offsets: Tensor,
    y_val: Tensor,
    y_offsets: Tensor,
    x_weight: Tensor | None = None,
    y_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids of pairs of each row's distinct x and y, their offsets and weights; no weights are ones."""
    x, y = RaggedTensor(x_val, x_offsets, x_weight), RaggedTensor(y_val, y_offsets, y_weight)
    pairs = ragged.feature_cross(x, y)
    weight = pairs.weight()
    ones = torch.ones(len(pairs.values()), device=x_val.device)
    return pairs.values(), pairs.offsets()[-1].to(x_offsets.dtype), ones if weight is None else weight


def ragged_tile(
    batch: Sequence[int], seq: Sequence[int], indices: Tensor, offset: Tensor, table: Tensor, check_enable: bool = False
) -> Tensor:
    """The first seq[g] vectors of each row of group g, filled up with zeros: [Σ batch · seq, D], with gradient.

    check_enable: ours checks always, on the CPU.
    """
    return ragged.ragged_tile(batch, seq, indices, offset, table)


def ragged_topk_index_cutoff(
    drop_num: Tensor,
    pad_num: Tensor,
    drop_side: Tensor,
    pad_side: Tensor,
    offset: Tensor,
    topk_index: Tensor,
    indicator: Tensor,
) -> tuple[Tensor, Tensor]:
    """Places, in rows before a cut, of positions in cut rows; and the offsets of these places. Sides: True is left."""
    return ragged.topk_index_cut_off(offset, topk_index, indicator, drop_num, pad_num, bool(drop_side), bool(pad_side))


def __getattr__(name: str) -> Any:
    return refuse_name(__name__, name)
