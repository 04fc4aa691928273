"""Rows of many columns cut in one call, for SequenceTruncate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recis_core.compat.recis.ragged.tensor import RaggedTensor
from recis_core.ragged import RaggedPadInfo, cut_off_2d, cut_off_3d
from recis_core.ragged import RaggedTensor as Checked


def truncated(ops: Sequence[Any], columns: Sequence[Any]) -> list[Any]:
    """The result of each op, a SequenceTruncate, for its column."""
    results: list[Any] = list(columns)
    for n_dims, cut in ((2, cut_off_2d), (3, cut_off_3d)):
        chosen = [n for n, op in enumerate(ops) if op.n_dims == n_dims]
        given = [_levels(columns[n], n_dims - 1) for n in chosen]
        lengths, sides = [ops[n].seq_len for n in chosen], [ops[n].truncate_side for n in chosen]
        for n, made in zip(chosen, cut(given, lengths, sides, ["right"] * len(chosen)) if chosen else [], strict=True):
            results[n] = _as_recis(made, columns[n], ops[n].seq_len)
    return results


def _levels(column: Checked, levels: int) -> Checked:
    """The innermost levels alone; an outer one that does not fit them hurts nobody."""
    weight = column.weight()
    return Checked(column.values(), column.offsets()[-levels:], None if weight is None else weight.float())


def _as_recis(made: Checked, column: Checked, seq_len: int) -> RaggedTensor:
    sizes = list(column.dense_shape)
    sizes[1] = seq_len
    offsets = [level.to(column.offsets()[-1].dtype) for level in made.offsets()]
    result = RaggedTensor(made.values(), offsets, made.weight(), sizes)
    info = made.pad_info
    if info is not None and info.drop_nums is not None and info.pad_nums is not None:
        result.set_pad_info(RaggedPadInfo(info.drop_nums[-1], info.pad_nums[-1], info.drop_sides, info.pad_sides))  # type: ignore[arg-type]
    return result
