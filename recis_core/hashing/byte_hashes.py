"""sdbm and djb2 in plain torch: h = h · base + byte, in 64 bits, as a sum of bytes times powers of the base.

Sizes: L bytes, N texts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.hashing.byte_words import ByteWords

SDBM = (65599, 0)  # base, start
DJB2 = (33, 5381)


def polynomial(text: ByteWords, beg: Tensor, length: Tensor, base: int, start: int) -> Tensor:
    """int64 [N]: the hashes of `length` bytes from `beg` on. Sums wrap, so differences of running sums are exact."""
    longest = int(length.max()) if len(length) else 0
    powers = torch.full((longest + 1,), base, dtype=torch.int64, device=beg.device)
    powers[0] = 1
    powers = powers.cumprod(0)
    text_of = torch.repeat_interleave(torch.arange(len(beg), device=beg.device), length)
    edges = torch.cat([length.new_zeros(1), length.cumsum(0)])
    position = torch.arange(len(text_of), device=beg.device) - edges[text_of]
    terms = text.byte(beg[text_of] + position) * powers[length[text_of] - 1 - position]
    running = torch.cat([terms.new_zeros(1), terms.cumsum(0)])
    return running[edges[1:]] - running[edges[:-1]] + powers[length] * start
