"""Bytes of a row, and of an id, on the wire."""

from __future__ import annotations

import math

from recis_core.backends.spec import RowCodec
from recis_core.planning.model_file import Codec, Precision

ESCAPED = 0.02  # bytes a column of normally distributed rows of lossless adds: what is below 1/64 of the row's largest
ROW_NUMBER = 4  # names a row to its owner
INT64 = 8
FRAME, FRAME_HEAD = 128, 12  # ids packed together; their first id and width


def row_bytes(codec: Codec, dim: int) -> float:
    """One row of `dim` columns, of lossless as it is expected."""
    fixed = RowCodec(codec).row_bytes(dim)
    return fixed + ESCAPED * dim if codec == "lossless" else fixed


def gradient_bytes(precision: Precision, dim: int, accumulate: int) -> float:
    """One gradient row, over those that are sent and those that are not.

    With top-k a bit a row says which are sent. After several forwards a row's number goes along, for the owner has
    answered several lists of ids.
    """
    sent = row_bytes(precision.backward, dim) + (ROW_NUMBER if accumulate > 1 else 0)
    return precision.topk * sent + (0.125 if precision.topk < 1 else 0.0)


def reduced_bytes(precision: Precision, dim: int) -> int:
    """One row in an all-reduce, which sums floats: codecs of few bits do not apply."""
    return 2 * dim if precision.backward in ("bf16", "fp16") else 4 * dim


def id_bytes(precision: Precision, id_bits: int, ids: float) -> float:
    """One of `ids` ascending ids, spread over 2^id_bits values.

    Packed: differences in frames of 128, each as wide as its widest, the last frame half full. Differences are about
    exponential, so the widest of n is ln n + 0.577 means (2.4 bits more than the mean has, of 128), and half a bit
    goes to the round-up. Never more than int64, which few ids are sent as.
    """
    if precision.ids == "int64" or ids < 2:
        return INT64
    widest = math.log(min(ids, FRAME)) + 0.577
    bits = max(1.0, id_bits - math.log2(ids) + math.log2(widest) + 0.5)
    frames = max(1.0, ids / FRAME + 0.5)
    return min(INT64, frames * (FRAME_HEAD + FRAME / 8 * bits) / ids)
