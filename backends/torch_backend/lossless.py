"""bfloat16 rows with exponents counted down from the row's largest; backends.interface.Backend.encode has the format.

Sizes: U rows, D dim, T escapes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends.encoded_rows import check_tail
from recis_core.backends.row_codes import ESCAPE


def to_lossless(code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """bfloat16 bits int64 [U, D] -> (bytes uint8 [U, row_bytes], tail uint8 [T], tail lengths int32 [U])."""
    exponent = (code >> 7) & 255
    top = exponent.amax(1, keepdim=True)
    fraction = ((code >> 8) & 128) | (code & 127)
    delta = (top - exponent).clamp(max=ESCAPE)
    escaped = delta == ESCAPE
    parts = (top.to(torch.uint8), fraction.to(torch.uint8), packed_bits(_three_bits(delta)))
    return torch.cat(parts, 1), exponent[escaped].to(torch.uint8), escaped.sum(1, dtype=torch.int32)


def from_lossless(codes: Tensor, dim: int, tail: Tensor) -> Tensor:
    """bfloat16 bits int64 [U, D]."""
    top, fraction = codes[:, :1].long(), codes[:, 1 : 1 + dim].long()
    bits = unpacked_bits(codes[:, 1 + dim :], 3 * dim).view(-1, dim, 3)
    delta = bits[:, :, 0] | bits[:, :, 1] << 1 | bits[:, :, 2] << 2
    escaped = delta == ESCAPE
    check_tail(tail, int(escaped.sum()))
    exponent = (top - delta).masked_scatter(escaped, tail.long())
    return (fraction & 128) << 8 | (exponent & 255) << 7 | (fraction & 127)


def _three_bits(delta: Tensor) -> Tensor:
    return torch.stack([(delta >> i) & 1 for i in range(3)], 2).flatten(1)


def packed_bits(bits: Tensor) -> Tensor:
    """0 and 1 [U, n] -> uint8 [U, ⌈n/8⌉], low bit first."""
    bits = torch.nn.functional.pad(bits.to(torch.uint8), (0, -bits.shape[1] % 8))
    places = torch.tensor([1 << i for i in range(8)], dtype=torch.uint8, device=bits.device)
    return (bits.view(len(bits), bits.shape[1] // 8, 8) * places).sum(2, dtype=torch.uint8)


def unpacked_bits(packed: Tensor, count: int) -> Tensor:
    """int64 [U, count]."""
    places = torch.arange(8, device=packed.device)
    return ((packed[:, :, None].long() >> places) & 1).flatten(1)[:, :count]
