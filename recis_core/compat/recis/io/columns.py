"""Columns of a batch as RecIS gives them: int32 offsets, hashed text, int8 bytes or arrays of text.

Sizes: B rows, N texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.compat.recis.ragged.tensor import RaggedTensor
from recis_core.hashing import farmhash, murmurhash
from recis_core.hashing.unsigned import unsigned_mod
from recis_core.ragged import RaggedTensor as Checked

HASHES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"farm": farmhash, "murmur": murmurhash}
TOP = (1 << 63) - 1


@dataclass(frozen=True)
class Reading:
    """How a variable-length column is read. hash_type: of text, "farm" or "murmur"; then hash_bucket 0 keeps 63 bits."""

    name: str
    hash_type: str | None = None
    hash_bucket: int = 0
    trans_int8: bool = False

    def __post_init__(self) -> None:
        if self.hash_type is not None and self.hash_type not in HASHES:
            raise ValueError(f"hash_type of {self.name!r} must be farm or murmur; got {self.hash_type!r}.")

    def convert(self, column: Checked, ragged: bool) -> Any:
        """A RaggedTensor; text that is neither hashed nor int8 as [array of bytes objects, offsets …], outer to inner.

        Raises:
          TypeError: hash_type or trans_int8 of a column that is no text.
        """
        text = column.dtype == torch.uint8
        if (self.hash_type or self.trans_int8) and not text:
            wanted = "hash_type" if self.hash_type else "trans_int8"
            raise TypeError(f"{wanted} is for text; column {self.name!r} holds {column.dtype}.")
        if text and not self.hash_type and not self.trans_int8:
            return _as_array(column)
        if self.hash_type:
            column = self._hashed(column)
        elif text:
            column = column.with_values(column.values().view(torch.int8))
        return _as_recis(column) if ragged else column.to_sparse()

    def _hashed(self, column: Checked) -> Checked:
        hashes = HASHES[str(self.hash_type)](column.values(), column.offsets()[-1])
        ids = unsigned_mod(hashes, self.hash_bucket) if self.hash_bucket else hashes & TOP
        return Checked(ids, column.offsets()[:-1])


def _as_recis(column: Checked) -> RaggedTensor:
    offsets = [level.int() for level in column.offsets()]
    return RaggedTensor(column.values(), offsets, column.weight(), (len(column), *[-1] * len(offsets)))


def _as_array(column: Checked) -> list[Any]:
    letters, ends = column.values().numpy().tobytes(), column.offsets()[-1].tolist()
    texts = np.array([letters[a:b] for a, b in pairwise(ends)], dtype="S")
    return [texts, *(level.numpy() for level in column.offsets()[:-1])]


def fixed(column: Tensor) -> Tensor:
    """[B, width] of a fixed-length column."""
    return column if column.dim() > 1 else column[:, None]
