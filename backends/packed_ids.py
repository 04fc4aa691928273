"""The bytes of packed ids, cut into sections and checked before any backend's unpack_ids reads by them.

Sizes: N ids, F = ⌈N/128⌉ frames.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FRAME, LANES = 128, 4
BASE_BYTES, HEAD_BYTES = 8, 9  # of a frame: its first id; that and its width
WIDTH_BYTES = 16  # a word for each lane, for each bit of width


class Sections(NamedTuple):
    bases: Tensor  # int64 [F]
    widths: Tensor  # uint8 [F]
    words: Tensor  # int32 [4·Σ widths], the bits of uint32


def frames_of(count: int) -> int:
    return -(-count // FRAME)


def check_ids(ids: Tensor) -> None:
    if ids.dtype != torch.int64 or ids.ndim != 1:
        raise ValueError(f"ids must be int64 [N]; got {ids.dtype} {list(ids.shape)}.")


def sections(packed: Tensor, count: int) -> Sections:
    """See Backend.unpack_ids for what raises."""
    if packed.dtype != torch.uint8 or packed.ndim != 1:
        raise ValueError(f"packed must be uint8 [bytes]; got {packed.dtype} {list(packed.shape)}.")
    if count < 0:
        raise ValueError(f"count must be at least 0; got {count}.")
    frames, size = frames_of(count), packed.shape[0]
    if size < HEAD_BYTES * frames:
        raise ValueError(f"packed must hold {HEAD_BYTES * frames} bytes of heads for {count} ids; got {size} in all.")
    widths = packed[BASE_BYTES * frames : HEAD_BYTES * frames]
    widest, bits = (int(widths.max()), int(widths.sum(dtype=torch.int64))) if frames else (0, 0)
    if widest > 64:
        raise ValueError(f"packed has a frame of width {widest}; differences of 64-bit ids take at most 64.")
    if size != HEAD_BYTES * frames + WIDTH_BYTES * bits:
        wanted = HEAD_BYTES * frames + WIDTH_BYTES * bits
        raise ValueError(f"packed must have {wanted} bytes for {count} ids of these widths; got {size}.")
    words = packed[HEAD_BYTES * frames :]
    return Sections(_viewed(packed[: BASE_BYTES * frames], torch.int64), widths, _viewed(words, torch.int32))


def joined(bases: Tensor, widths: Tensor, words: Tensor) -> Tensor:
    """The bytes of these sections: int64 [F], uint8 [F], int32."""
    return torch.cat([_viewed(bases, torch.uint8), widths, _viewed(words, torch.uint8)])


def _viewed(part: Tensor, dtype: torch.dtype) -> Tensor:
    """Copied, for a view of wider elements must start at an aligned byte."""
    return part.clone(memory_format=torch.contiguous_format).view(dtype)
