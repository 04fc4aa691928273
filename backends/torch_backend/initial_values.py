"""Initial values and rounding noise in torch, bit-equal to backends.initial_values."""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends.initial_values import CELLS, HALF, MIN_TAIL, PARITY, ROTATIONS
from recis_core.backends.spec import TableSpec
from recis_core.backends.torch_backend.hashing import MASK


def threefry2x32(k0: Tensor, k1: Tensor, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
    keys = (k0, k1, k0 ^ k1 ^ PARITY)
    x0, x1 = (x0 + keys[0]) & MASK, (x1 + keys[1]) & MASK
    for group in range(5):
        for r in ROTATIONS[group % 2]:
            x0 = (x0 + x1) & MASK
            x1 = (((x1 << r) | (x1 >> (32 - r))) & MASK) ^ x0
        x0 = (x0 + keys[(group + 1) % 3]) & MASK
        x1 = (x1 + keys[(group + 2) % 3] + group + 1) & MASK
    return x0, x1


def words(seed: int, uids: Tensor, ids: Tensor, dim: int, counter: Tensor | int = 0, first: int = 0) -> Tensor:
    """Random words [N, dim] in [0, 2**32) of columns from `first` on; `counter` is one number or one a row."""
    key = torch.full_like(ids, seed >> 32 & MASK), torch.full_like(ids, seed & MASK)
    k0, k1 = threefry2x32(*key, (ids >> 32) & MASK, ids & MASK)
    pair = (torch.arange((dim + 1) // 2, device=ids.device) + first // 2).expand(len(ids), -1)
    counts = torch.as_tensor(counter, device=ids.device).reshape(-1, 1).expand_as(pair)
    pairs = threefry2x32((k0 ^ uids)[:, None].expand_as(pair), k1[:, None].expand_as(pair), pair, counts)
    return torch.stack(pairs, -1).reshape(len(ids), 2 * pair.shape[1])[:, :dim]


def look_up(quantiles: Tensor, word: Tensor) -> Tensor:
    """Words to int32 quantiles; see backends.initial_values.look_up."""
    tail = (word & 0x7FFFFFFF).clamp(min=MIN_TAIL)
    octave = 31 - torch.frexp(tail.double())[1].long()
    inside = (1 << 30) - 1 - ((tail << octave) - (1 << 30))
    t = (inside >> 10) & 0x3FFF
    at = (word >> 31) * HALF + octave * CELLS + (inside >> 24)
    beg = quantiles[at]
    d = quantiles[at + 1] - beg
    return (beg + (((d >> 10) * t + (((d & 1023) * t) >> 10)) >> 4)).to(torch.int32)


def initial_values(spec: TableSpec, uids: Tensor, ids: Tensor) -> Tensor:
    """float32 [N, D]: what each (uid, id) begins as."""
    d = spec.distribution
    quantiles = torch.tensor(d.quantiles.reshape(-1), dtype=torch.int64, device=ids.device)
    drawn = words(spec.seed, uids, ids, spec.dim, first=spec.first_column)
    return look_up(quantiles, drawn).float() * float(d.scale)


def round_to_bfloat16(values: Tensor, noise: Tensor) -> Tensor:
    """float32 to bfloat16: noise in [0, 2**16) is added below the cut; inf and NaN pass as they are."""
    bits = values.view(torch.int32).long() & MASK
    cut = ((bits + noise) & MASK) >> 16
    rounded = torch.where(cut >= 1 << 15, cut - (1 << 16), cut).to(torch.int16).view(torch.bfloat16)
    return torch.where(values.isfinite(), rounded, values.to(torch.bfloat16))
