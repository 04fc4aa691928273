"""Numbers that stand for codecs in packets, and rows and ids as a packet's sections.

A number, once released, keeps its meaning; new codecs are appended. Top-k has no number: it is fewer ids.

Sizes: n ids, D dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from backends.errors import PacketError

ROW_CODECS = ("fp32", "bf16", "fp16", "fp8", "int8", "int4", "sign", "lossless")
ID_CODECS = ("raw", "packed")

Arrays = dict[str, Tensor]


def number_of(codec: str, codecs: tuple[str, ...]) -> int:
    """A codec's number.

    Raises:
      ValueError: there is no such codec.
    """
    if codec not in codecs:
        raise ValueError(f"codec must be one of {', '.join(codecs)}; got {codec!r}.")
    return codecs.index(codec)


def name_of(number: int, codecs: tuple[str, ...]) -> str:
    """A codec by its number. Raises PacketError where this version knows none."""
    if number >= len(codecs):
        raise PacketError(f"codec number {number} is unknown; this recis-core knows {', '.join(codecs)}. Upgrade it.")
    return codecs[number]


def encode_rows(codec: str, rows: Tensor) -> Arrays:
    """Float32 [n, D] as the sections of a codec."""
    return {f"rows.{codec}": rows}


def decode_rows(codec: str, arrays: Arrays, n: int, dim: int) -> Tensor:
    """Float32 [n, D] from a codec's sections, which are taken out of `arrays`.

    Raises:
      PacketError: they are missing, or not what n rows of dim columns make.
    """
    return take(arrays, f"rows.{codec}", "float32", (n, dim))


def encode_ids(codec: str, ids: Tensor) -> Arrays:
    """Int64 [n] as the sections of a codec."""
    return {f"ids.{codec}": ids}


def decode_ids(codec: str, arrays: Arrays, n: int) -> Tensor:
    """Int64 [n]; as decode_rows."""
    return take(arrays, f"ids.{codec}", "int64", (n,))


def take(arrays: Arrays, name: str, dtype: str, shape: tuple[int | None, ...]) -> Tensor:
    """A section by name, out of `arrays`.

    Raises:
      PacketError: it is missing, or of another dtype or shape; None stands for any size.
    """
    if name not in arrays:
        raise PacketError(f"section {name!r} is missing; there are {sorted(arrays)}.")
    found = arrays.pop(name)
    fits = found.dim() == len(shape) and all(w in (None, s) for w, s in zip(shape, found.shape, strict=True))
    if not fits or found.dtype != getattr(torch, dtype):
        wanted = [size if size is not None else "any" for size in shape]
        raise PacketError(f"section {name!r} must be {dtype} {wanted}; got {found.dtype} {list(found.shape)}.")
    return found
