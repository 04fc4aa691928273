"""Combine: one id for the values of several columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from recis_core.features.arguments import as_whole
from recis_core.features.op import Op
from recis_core.features.value import check_kind, check_rows, described, flat, like, rows_and_values
from recis_core.features.word_hash import cross_weights, cross_words, hash_words
from recis_core.ragged import RaggedTensor, uint64_mod


@dataclass(frozen=True, eq=False, repr=False)
class Combine(Op):
    """A hash of one value of each column; of lists one for each combination in a row, the first column slowest.

        x = 1 2 | 3     y = 7 | 8 9      →      h(1,7) h(2,7) | h(3,8) h(3,9)

    h is MurmurHash64A, seed 0, of the values' 8 little-endian bytes, one after another; for two columns it is
    FeatureCross's, which leaves out what a row holds twice. Weights are multiplied; none is 1.

    Args:
      num_buckets: the hash is taken mod this, unsigned. None: all 64 bits, as a signed integer.

    Takes one or more columns of integers, tensors [B] or [B, F] or RaggedTensors of one level, with as many rows. Gives a
    tensor of that shape where all are tensors [B] or there is one tensor, else a RaggedTensor.
    """

    num_buckets: int | None = None
    takes: ClassVar[str] = "int"

    def __post_init__(self) -> None:
        if self.num_buckets is not None:
            self._set(num_buckets=as_whole(self.num_buckets, "num_buckets"))

    def check(self, value: Any) -> None:
        columns = value if isinstance(value, list) else [value]
        if not columns:
            raise TypeError(f"the input must be at least one column; got {described(value)}.")
        for n, column in enumerate(columns):
            check_kind(column, "int", f"column {n}")
            check_rows(column, f"column {n}")
        rows = [len(column) for column in columns]
        if len(set(rows)) > 1:
            raise ValueError(f"columns must have as many rows as another; got {', '.join(map(str, rows))}.")

    @classmethod
    def run(cls, ops: Sequence[Combine], values: Sequence[Any]) -> list[Any]:
        columns = [list(value) if isinstance(value, list) else [value] for value in values]
        results: list[Any] = [None] * len(ops)
        alike = [n for n, several in enumerate(columns) if _alike(several)]
        words = [[flat(column).reshape(-1).to(torch.int64) for column in columns[n]] for n in alike]
        for n, hashes in zip(alike, hash_words(words, [ops[n].num_buckets or 0 for n in alike]), strict=True):
            results[n] = like(columns[n][0], hashes.reshape(flat(columns[n][0]).shape))
        for n in set(range(len(ops))) - set(alike):
            results[n] = ops[n]._in_buckets(cls._crossed(columns[n]))
        return results

    def _in_buckets(self, crossed: RaggedTensor) -> RaggedTensor:
        return (
            crossed if self.num_buckets is None else crossed.with_values(uint64_mod(crossed.values(), self.num_buckets))
        )

    @classmethod
    def _crossed(cls, columns: Sequence[Any]) -> RaggedTensor:
        pairs = [rows_and_values(column) for column in columns]
        ids, bounds = cross_words([ids.to(torch.int64) for ids, _ in pairs], [bounds for _, bounds in pairs])
        return RaggedTensor(ids, bounds, cls._weights(columns, pairs))

    @staticmethod
    def _weights(columns: Sequence[Any], pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor | None:
        given = [column.weight() if isinstance(column, RaggedTensor) else None for column in columns]
        if all(weight is None for weight in given):
            return None
        weights = [
            torch.ones(len(ids), dtype=torch.float32, device=ids.device) if weight is None else weight.to(torch.float32)
            for weight, (ids, _) in zip(given, pairs, strict=True)
        ]
        return cross_weights(weights, [bounds for _, bounds in pairs])


def _alike(columns: Sequence[Any]) -> bool:
    """Whether the columns are of one form, so that they are hashed value by value."""
    return len(columns) == 1 or all(isinstance(column, Tensor) and column.dim() == 1 for column in columns)
