"""SequenceTruncate: rows of at most so many values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recis_core.features.arguments import as_dtype, as_flag, as_whole, one_of
from recis_core.features.op import Op
from recis_core.features.value import described
from recis_core.ragged import RaggedTensor, cut_off_2d, cut_off_3d


@dataclass(frozen=True, eq=False, repr=False)
class SequenceTruncate(Op):
    """Rows cut to their first or last `seq_len` values, weights with their ids.

        keep 3, drop left:    30 31 32 33 | 34   →   31 32 33 | 34

    n_dims=3: sessions of rows; `seq_len` of them stay, and fewer are filled up with empty ones at the right.

    Args:
      seq_len: values (n_dims=3: inner rows) that a row keeps.
      check_length: with truncate=False, refuse longer rows. RecIS refuses them before truncating, too, but only where
        an op is called by itself; here a call by itself equals one in an engine.
      truncate: False leaves rows as they are. RecIS then gives None.
      truncate_side: the side at which values are dropped, "left" or "right".
      n_dims: 2 or 3, dimensions of the column.
      dtype: of the column; as in RecIS, values are not converted.

    Takes a RaggedTensor of numbers, with two levels or more for n_dims=3, or a tensor [B, L]; gives the same form. The
    dense size of a RaggedTensor becomes seq_len, and `pad_info` says what was dropped and padded.
    """

    seq_len: int = 64
    check_length: bool = True
    truncate: bool = True
    truncate_side: str = "left"
    n_dims: int = 2
    dtype: torch.dtype = torch.long

    def __post_init__(self) -> None:
        one_of(self.truncate_side, "truncate_side", ("left", "right"))
        one_of(self.n_dims, "n_dims", (2, 3))
        as_flag(self.truncate, "truncate")
        as_flag(self.check_length, "check_length")
        self._set(seq_len=as_whole(self.seq_len, "seq_len"), dtype=as_dtype(self.dtype, "dtype"))

    def check(self, value: Any) -> None:
        if isinstance(value, RaggedTensor):
            if len(value.offsets()) < self.n_dims - 1:
                raise ValueError(
                    f"n_dims={self.n_dims} wants {self.n_dims - 1} levels of offsets or more; got {value!r}."
                )
        elif not isinstance(value, Tensor) or value.is_sparse or value.dim() != 2 or self.n_dims != 2:
            wanted = "a RaggedTensor" if self.n_dims == 3 else "a RaggedTensor or a tensor [B, L]"
            raise TypeError(f"the input must be {wanted}; got {described(value)}.")
        if self.check_length and not self.truncate:
            self._check_length(value)

    def _check_length(self, value: Any) -> None:
        longest = value.shape[1] if isinstance(value, Tensor) else int(max([0, *self._lengths(value).tolist()]))
        if longest > self.seq_len:
            raise ValueError(
                f"rows must have at most seq_len = {self.seq_len} values; the longest has {longest}. truncate=True cuts them, "
                "check_length=False lets them be."
            )

    def _lengths(self, value: RaggedTensor) -> Tensor:
        return value.offsets()[-1 if self.n_dims == 2 else -2].diff()

    @classmethod
    def run(cls, ops: Sequence[SequenceTruncate], values: Sequence[Any]) -> list[Any]:
        results = list(values)
        for n, (op, value) in enumerate(zip(ops, values, strict=True)):
            if op.truncate and isinstance(value, Tensor):
                results[n] = value[:, -op.seq_len :] if op.truncate_side == "left" else value[:, : op.seq_len]
        for n_dims, cut in ((2, cut_off_2d), (3, cut_off_3d)):
            cls._cut(ops, values, results, n_dims, cut)
        return results

    @staticmethod
    def _cut(ops: Sequence[SequenceTruncate], values: Sequence[Any], results: list[Any], n_dims: int, cut: Any) -> None:
        chosen = [n for n, op in enumerate(ops) if op.truncate and op.n_dims == n_dims]
        chosen = [n for n in chosen if isinstance(values[n], RaggedTensor)]
        if chosen:
            lengths, sides = [ops[n].seq_len for n in chosen], [ops[n].truncate_side for n in chosen]
            found = cut([values[n] for n in chosen], lengths, sides, ["right"] * len(chosen))
            for n, result in zip(chosen, found, strict=True):
                results[n] = result
