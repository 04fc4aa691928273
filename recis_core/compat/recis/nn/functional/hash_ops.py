"""Hashes of lists of bytes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from recis_core import hashing


def farmhash(inputs: Sequence[Tensor], splits: Sequence[Tensor]) -> list[Tensor]:
    """FarmHash Fingerprint64 of each list of int8 bytes, int64: a tensor for each column of bytes and offsets."""
    return hashing.farmhash(list(inputs), list(splits))


def murmurhash(inputs: Sequence[Tensor], splits: Sequence[Tensor]) -> list[Tensor]:
    """MurmurHash64A, seed 0, of each list of int8 bytes; else as `farmhash`."""
    return hashing.murmurhash(list(inputs), list(splits))
