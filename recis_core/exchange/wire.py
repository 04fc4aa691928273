"""Rows as bytes between ranks: codes, then rows that travel exact, then the tail of a codec that has one.

    codes [n, w] | positions int32 [e] of exact rows | those rows float32 [e, D] | tail [t]

n, e and t go ahead with the counts. Header and hashes belong to packets that leave the process group.

Sizes: n rows, w bytes a row, e exact rows, t bytes of tail, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recis_core.backends.interface import Backend
from recis_core.backends.records import EncodedRows
from recis_core.backends.spec import RowCodec


@dataclass(frozen=True)
class Shape:
    """What a message holds."""

    rows: int
    exact: int
    tail: int

    def length(self, codec: RowCodec, dim: int) -> int:
        return self.rows * codec.row_bytes(dim) + self.exact * (4 + 4 * dim) + self.tail


def as_bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.uint8).flatten() if tensor.numel() else tensor.new_empty(0, dtype=torch.uint8)


def lay(encoded: EncodedRows) -> Tensor:
    """One message, uint8."""
    parts = [encoded.codes.flatten()]
    if len(encoded.exact):
        parts += [as_bytes(encoded.exact.int()), as_bytes(encoded.exact_rows)]
    if encoded.tail is not None:
        parts.append(encoded.tail)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def shape_of(encoded: EncodedRows) -> Shape:
    return Shape(len(encoded.codes), len(encoded.exact), 0 if encoded.tail is None else len(encoded.tail))


def read(backend: Backend, message: Tensor, shape: Shape, codec: RowCodec, dim: int) -> Tensor:
    """float32 [n, D] of one message."""
    codes, positions, exact, tail = message.split(
        [shape.rows * codec.row_bytes(dim), 4 * shape.exact, 4 * dim * shape.exact, shape.tail]
    )
    codes = codes.clone().reshape(shape.rows, codec.row_bytes(dim))  # a memory of its own, for alignment
    values = backend.decode(codes, codec=codec, dim=dim, tail=tail if shape.tail or codec.kind == "lossless" else None)
    if shape.exact:
        at = positions.clone().view(torch.int32).long()
        values[at] = exact.clone().view(torch.float32).reshape(shape.exact, dim)
    return values


def take(encoded: EncodedRows, index: Tensor) -> EncodedRows:
    """Rows index, int [n], of what was encoded; repeats are fine."""
    index = index.long()
    exact, exact_rows = encoded.exact, encoded.exact_rows
    if len(exact):
        number = torch.full((len(encoded.codes),), -1, dtype=torch.int64, device=index.device)
        number[exact] = torch.arange(len(exact), device=index.device)
        at = number[index]
        exact = (at >= 0).nonzero().flatten()
        exact_rows = encoded.exact_rows[at[exact]]
    tail, lengths = _take_tail(encoded, index)
    return EncodedRows(encoded.codes[index], None, exact, exact_rows, 0, tail, lengths)


def _take_tail(encoded: EncodedRows, index: Tensor) -> tuple[Tensor | None, Tensor | None]:
    if encoded.tail is None or encoded.tail_lengths is None:
        return None, None
    starts = F.pad(encoded.tail_lengths.long().cumsum(0), (1, 0))[:-1]
    lengths = encoded.tail_lengths[index].long()
    before = F.pad(lengths.cumsum(0), (1, 0))[:-1]
    at = torch.arange(int(lengths.sum()), device=index.device) + torch.repeat_interleave(
        starts[index] - before, lengths
    )
    return encoded.tail[at], lengths.int()


def make_exact(encoded: EncodedRows, positions: Tensor, rows: Tensor) -> EncodedRows:
    """The same, with rows at these ascending positions exact as well."""
    exact = torch.cat([encoded.exact, positions])
    order = torch.argsort(exact)
    exact_rows = torch.cat([encoded.exact_rows, rows])[order]
    return EncodedRows(
        encoded.codes, encoded.left, exact[order], exact_rows, encoded.clamped, encoded.tail, encoded.tail_lengths
    )
