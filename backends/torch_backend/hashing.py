"""Hash words in torch: uint32 arithmetic on int64 tensors, masked to 32 bits."""

from __future__ import annotations

from torch import Tensor

from recis_core.backends import placement

MASK = 0xFFFFFFFF


def mix(h: Tensor) -> Tensor:
    h = h ^ (h >> 16)
    h = (h * placement.MIX_1) & MASK
    h = h ^ (h >> 13)
    h = (h * placement.MIX_2) & MASK
    return h ^ (h >> 16)


def hash_word(ids: Tensor, uids: Tensor, salt: int) -> Tensor:
    """One hash word [N] of int64 ids and their tables' uids, as int64 in [0, 2**32)."""
    hi, lo = (ids >> 32) & MASK, ids & MASK
    h = mix(lo ^ salt)
    h = mix((h + hi) & MASK)
    return mix((h + uids * placement.TABLE_MULTIPLIER) & MASK)


def bucket_words(ids: Tensor, uids: Tensor) -> tuple[Tensor, Tensor]:
    """The words that name a key's two candidate buckets; their low bits do."""
    return hash_word(ids, uids, placement.A_SALT), hash_word(ids, uids, placement.B_SALT)


def slices(ids: Tensor, uids: Tensor) -> Tensor:
    return hash_word(ids, uids, placement.SLICE_SALT) & ((1 << placement.SLICE_BITS) - 1)
