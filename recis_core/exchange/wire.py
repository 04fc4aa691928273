"""Rows as bytes between ranks: codes, then rows that travel exact, then the tail of a codec that has one.

    codes [n, w] | positions int32 [e] of exact rows | those rows float32 [e, D] | tail [t]

n, e and t go ahead with the counts. Header and hashes belong to packets that leave the process group.

Sizes: n rows, w bytes a row, e exact rows, t bytes of tail, D dim.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recis_core.backends.interface import Backend
from recis_core.backends.records import EncodedRows
from recis_core.backends.spec import RowCodec


class Shape(NamedTuple):
    """What a message holds. width: bytes of a row's codes."""

    rows: int
    exact: int
    tail: int
    dim: int
    width: int

    @property
    def length(self) -> int:
        return self.rows * self.width + self.exact * (4 + 4 * self.dim) + self.tail


class Part(NamedTuple):
    """Some of the rows that were encoded, as a message, uint8."""

    message: Tensor
    rows: int
    exact: int
    tail: int


def lengths(shapes: list[list[Shape]]) -> list[list[int]]:
    return [[shape.length for shape in line] for line in shapes]


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


def part(encoded: EncodedRows, index: Tensor) -> Part:
    """Rows index, int [n]; repeats are fine."""
    rows = take(encoded, index)
    return Part(lay(rows), len(rows.codes), len(rows.exact), 0 if rows.tail is None else len(rows.tail))


def read(
    backend: Backend, messages: list[Tensor], shapes: list[Shape], *, codec: RowCodec, device: torch.device
) -> Tensor:
    """float32 [n, D] of messages whose rows have one dim, one after another."""
    dim, width = shapes[0].dim, shapes[0].width
    cut = [
        m.split([s.rows * width, 4 * s.exact, 4 * dim * s.exact, s.tail]) for m, s in zip(messages, shapes, strict=True)
    ]
    codes = torch.cat([parts[0] for parts in cut]).to(device).reshape(-1, width)  # a memory of its own, for alignment
    tail = torch.cat([parts[3] for parts in cut]).to(device) if codec.kind == "lossless" else None
    values = backend.decode(codes, codec=codec, dim=dim, tail=tail)
    beg = 0
    for (_, positions, exact, _), shape in zip(cut, shapes, strict=True):
        if shape.exact:
            at = beg + positions.clone().view(torch.int32).long()
            values[at.to(device)] = exact.clone().view(torch.float32).reshape(shape.exact, dim).to(device)
        beg += shape.rows
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
