"""Rows and ids as a packet's sections, and the numbers that stand for their codecs.

    rows.<codec>       uint8 [n, row bytes]      as Backend.encode makes them
    rows.exact         int64 [E] ascending       which rows hold NaN or inf: zeros above
    rows.exact_values  float32 [E, D]            those rows; both only where E > 0
    rows.tail          uint8 [T]                 lossless only
    ids.raw            int64 [n]       or        ids.packed  uint8, as Backend.pack_ids makes it

A number, once released, keeps its meaning; new codecs are appended. Top-k has no number: it is fewer ids.
All of it is done by the torch backend on the CPU; every backend makes the same bytes.

Sizes: n ids, D dim, E exact rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends import get, packed_ids
from recis_core.backends.errors import PacketError
from recis_core.backends.spec import CODEC_IDS, RowCodec

ROW_CODECS: dict[str, int] = CODEC_IDS
ID_CODECS = {"raw": 0, "packed": 1}
IDS_AT_ONCE = 1 << 16
EXACT, EXACT_VALUES, TAIL = "rows.exact", "rows.exact_values", "rows.tail"

Arrays = dict[str, Tensor]


def number_of(codec: str, codecs: dict[str, int]) -> int:
    """A codec's number.

    Raises:
      ValueError: there is no such codec.
    """
    if codec not in codecs:
        raise ValueError(f"codec must be one of {', '.join(codecs)}; got {codec!r}.")
    return codecs[codec]


def name_of(number: int, codecs: dict[str, int]) -> str:
    """A codec by its number. Raises PacketError where this version knows none."""
    for name, its_number in codecs.items():
        if its_number == number:
            return name
    raise PacketError(f"codec number {number} is unknown; this recis-core knows {', '.join(codecs)}. Upgrade it.")


def encode_rows(codec: str, rows: Tensor) -> Arrays:
    """Float32 [n, D] as the sections of a codec."""
    encoded = get("torch").encode(rows, codec=RowCodec(codec))
    arrays = {f"rows.{codec}": encoded.codes}
    if len(encoded.exact):
        arrays |= {EXACT: encoded.exact, EXACT_VALUES: encoded.exact_rows}
    return arrays if encoded.tail is None else arrays | {TAIL: encoded.tail}


def decode_rows(codec: str, arrays: Arrays, n: int, dim: int) -> Tensor:
    """Float32 [n, D] from a codec's sections, which are taken out of `arrays`.

    Raises:
      PacketError: they are missing, or not what n rows of dim columns make.
    """
    kind = RowCodec(codec)
    codes = take(arrays, f"rows.{codec}", "uint8", (n, kind.row_bytes(dim)))
    tail = take(arrays, TAIL, "uint8", (None,)) if codec == "lossless" else None
    exact = take(arrays, EXACT, "int64", (None,)) if EXACT in arrays else None
    try:
        rows = get("torch").decode(codes, codec=kind, dim=dim, tail=tail)
    except ValueError as error:
        raise PacketError(f"rows of {codec} cannot be read: {error}") from error
    return rows if exact is None else _with_exact(rows, exact, take(arrays, EXACT_VALUES, "float32", (len(exact), dim)))


def check_exact(exact: Tensor, n: int) -> None:
    """Raises PacketError unless these may be the exact ones among n rows."""
    ascending = bool((exact[1:] > exact[:-1]).all())
    if not len(exact) or not ascending or not 0 <= int(exact[0]) <= int(exact[-1]) < n:
        raise PacketError(f"exact rows must be ascending numbers in [0, {n}), at least one; they are not.")


def _with_exact(rows: Tensor, exact: Tensor, values: Tensor) -> Tensor:
    check_exact(exact, len(rows))
    if bool(values.isfinite().all(1).any()) or bool(rows[exact].any()):
        raise PacketError("exact rows must hold NaN or inf, and zeros among the codes; some do not.")
    rows[exact] = values
    return rows


def encode_ids(codec: str, ids: Tensor) -> Arrays:
    """Int64 [n] as the sections of a codec."""
    return {f"ids.{codec}": ids if codec == "raw" else get("torch").pack_ids(ids)}


def decode_ids(codec: str, arrays: Arrays, n: int) -> Tensor:
    """Int64 [n]; as decode_rows."""
    if codec == "raw":
        return take(arrays, "ids.raw", "int64", (n,))
    packed = take(arrays, "ids.packed", "uint8", (None,))
    try:
        return _unpacked(packed, n)
    except ValueError as error:
        raise PacketError(f"packed ids cannot be read: {error}") from error


def _unpacked(packed: Tensor, n: int) -> Tensor:
    """Some frames at a time: unpacking takes ten times what comes out of it."""
    parts, ids, step = (
        packed_ids.sections(packed, n),
        torch.empty(n, dtype=torch.int64),
        IDS_AT_ONCE // packed_ids.FRAME,
    )
    at = 0
    for first in range(0, len(parts.bases), step):
        bases, widths = parts.bases[first : first + step], parts.widths[first : first + step]
        words = parts.words[at : at + packed_ids.LANES * int(widths.sum(dtype=torch.int64))]
        at += len(words)
        some = ids[first * packed_ids.FRAME : (first + step) * packed_ids.FRAME]
        some[:] = get("torch").unpack_ids(packed_ids.joined(bases, widths, words), len(some))
    return ids


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
