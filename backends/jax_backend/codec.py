"""The codec stages: pad torch tensors up the ladder, run programs, cut the results.

Sizes: U rows, P rows (padded), D dim, N ids, F frames.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.encoded_rows import check_decode, check_encode, check_select, check_tail, exact_part
from recis_core.backends.initial_values import WIRE
from recis_core.backends.jax_backend.id_packing import Parts
from recis_core.backends.jax_backend.inputs import Crossing
from recis_core.backends.jax_backend.ladder import rung
from recis_core.backends.jax_backend.programs import Programs
from recis_core.backends.jax_backend.row_codes import Words
from recis_core.backends.packed_ids import FRAME, check_ids, frames_of, joined, sections
from recis_core.backends.records import EncodedRows, RowNoise
from recis_core.backends.spec import RowCodec
from recis_core.bridge.dlpack import ids_to_torch, to_torch

FRAME_WORDS = 256  # of a frame of width 64


def encode(
    programs: Programs,
    values: Tensor,
    residual: Tensor | None = None,
    *,
    codec: RowCodec,
    noise: RowNoise | None = None,
) -> EncodedRows:
    check_encode(values, residual, codec, noise)
    rows, size, crossing = len(values), rung(len(values)), Crossing()
    given = crossing.array(values, size)
    carried = None if residual is None else crossing.array(residual, size)
    got = programs.encode(given, carried, _words(crossing, noise, size), codec=codec)
    crossing.done(got)
    exact, exact_rows = exact_part(values.detach(), residual, to_torch(got.finite)[:rows])
    left = None if got.left is None else to_torch(got.left)[:rows]
    tail = lengths = None
    if got.lengths is not None:
        lengths = to_torch(got.lengths)[:rows]
        tail = to_torch(got.tail)[: int(lengths.sum())]
    return EncodedRows(to_torch(got.codes)[:rows], left, exact, exact_rows, int(got.clamped), tail, lengths)


def _words(crossing: Crossing, noise: RowNoise | None, size: int) -> Words | None:
    if noise is None:
        return None
    seed = np.array([noise.seed >> 32 & 0xFFFFFFFF, noise.seed & 0xFFFFFFFF], np.uint32)
    uids = torch.where(noise.uids < 1 << 31, noise.uids, noise.uids - (1 << 32))
    keys = crossing.words(noise.ids, size), crossing.array(uids, size, torch.int32)
    return Words(seed, *keys, np.uint32(WIRE | noise.t))


def decode(programs: Programs, codes: Tensor, *, codec: RowCodec, dim: int, tail: Tensor | None = None) -> Tensor:
    """The tail is padded to its largest possible size, so that its length compiles no further program."""
    check_decode(codes, codec, dim, tail)
    size, crossing = rung(len(codes)), Crossing()
    given = crossing.array(codes, size)
    escapes = None if tail is None else crossing.array(tail[: size * dim], size * dim)
    values, count = programs.decode(given, escapes, codec=codec, dim=dim)
    crossing.done(values)
    if tail is not None:
        check_tail(tail, int(count))
    return to_torch(values)[: len(codes)]


def pack_ids(programs: Programs, ids: Tensor) -> Tensor:
    check_ids(ids)
    size, frames, crossing = max(FRAME, rung(len(ids))), frames_of(len(ids)), Crossing()
    parts = programs.pack_ids(crossing.words(ids, size), np.int32(len(ids)))
    crossing.done(parts)
    words = to_torch(parts.words)[: int(parts.length)].view(torch.int32)
    return joined(ids_to_torch(parts.bases)[:frames], to_torch(parts.widths)[:frames], words)


def unpack_ids(programs: Programs, packed: Tensor, count: int) -> Tensor:
    bases, widths, words = sections(packed, count)
    size, crossing = max(FRAME, rung(count)), Crossing()
    frames = size // FRAME
    parts = Parts(
        crossing.words(bases, frames),
        crossing.array(widths, frames),
        crossing.array(words.view(torch.uint32), frames * FRAME_WORDS),
        np.int32(len(words)),
    )
    ids = programs.unpack_ids(parts, np.int32(count), size=size)
    crossing.done(ids)
    return ids_to_torch(ids)[:count]


def select_rows(programs: Programs, values: Tensor, k: int) -> Tensor:
    """The program orders all rows, so that another k compiles no further program."""
    check_select(values, k)
    crossing = Crossing()
    order = programs.norm_order(crossing.array(values, rung(len(values))), np.int32(len(values)))
    crossing.done(order)
    return to_torch(order)[:k].long().sort().values
