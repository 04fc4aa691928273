"""torch tensors into padded JAX arrays. A tensor of its rung's size crosses without a copy.

Sizes: N ids, B bags, F features.
"""

from __future__ import annotations

import jax
import numpy as np
import torch
from torch import Tensor

from recis_core.backends.jax_backend.embed import Bags
from recis_core.backends.records import LookupCall, Request
from recis_core.bridge import hold
from recis_core.bridge.dlpack import ids_to_jax, to_jax


def padded(tensor: Tensor, size: int, dtype: torch.dtype | None = None, fill: int = 0) -> Tensor:
    """The tensor, contiguous, padded with `fill` to `size` lines; no copy where it has both already."""
    dtype = dtype or tensor.dtype
    tensor = tensor.detach()
    if len(tensor) == size and tensor.dtype == dtype:
        return tensor.contiguous()
    out = torch.empty((size, *tensor.shape[1:]), dtype=dtype, device=tensor.device)
    out[: len(tensor)] = tensor
    out[len(tensor) :] = fill
    return out


class Crossing:
    """Tensors that one program reads, kept until `done`: on a GPU torch must not reuse their memory before."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []

    def array(self, tensor: Tensor, size: int, dtype: torch.dtype | None = None, fill: int = 0) -> jax.Array:
        self.tensors.append(padded(tensor, size, dtype, fill))
        return to_jax(self.tensors[-1])

    def words(self, ids: Tensor, size: int) -> jax.Array:
        """int64 [n] -> uint32 [size, 2]."""
        self.tensors.append(padded(ids, size))
        return ids_to_jax(self.tensors[-1])

    def done(self, until: object) -> None:
        """The program was started; `until` is the tree of its results."""
        hold(self.tensors, jax.tree.leaves(until))


def run_lengths(call: LookupCall) -> tuple[int, ...]:
    """Ids of each request, without padding; reads device memory only where it must."""
    lengths = [_length(r) for r in call.requests[:-1]]
    return (*lengths, len(call.ids) - sum(lengths))


def _length(request: Request) -> int:
    return int(request.offsets[-1]) if request.weights is None else len(request.weights)


def call_words(crossing: Crossing, call: LookupCall, lengths: tuple[int, ...], sizes: tuple[int, ...]) -> jax.Array:
    """The runs, each padded to its size, one behind the other."""
    if len(sizes) == 1:
        return crossing.words(call.ids, sizes[0])
    out = torch.zeros(sum(sizes), dtype=torch.int64, device=call.ids.device)
    for run, start in zip(call.ids.split(lengths), _starts(sizes), strict=False):
        out[start : start + len(run)] = run
    return crossing.words(out, len(out))


def _starts(sizes: tuple[int, ...]) -> list[int]:
    return np.concatenate([[0], np.cumsum(sizes)]).tolist()


def control(call: LookupCall, lengths: tuple[int, ...], sizes: tuple[int, ...], clock: tuple[int, int]) -> np.ndarray:
    """embed.Control as one int32 vector."""
    ends = _feature_ends(np.cumsum(call.lengths), np.array(_starts(lengths)), np.array(_starts(sizes)))
    return np.concatenate([clock, lengths, ends, call.ordinals]).astype(np.int32)


def _feature_ends(ends: np.ndarray, starts: np.ndarray, padded_starts: np.ndarray) -> np.ndarray:
    """Where features end in the padded ids; padding moves whole runs."""
    run = np.maximum(np.searchsorted(starts, ends, side="left") - 1, 0)
    return ends - starts[run] + padded_starts[run]


def bags(crossing: Crossing, offsets: Tensor, weights: Tensor | None, length: int, size: int, bag_size: int) -> Bags:
    padded_offsets = crossing.array(offsets, bag_size + 1, torch.int32, fill=length)
    return Bags(padded_offsets, None if weights is None else crossing.array(weights, size, torch.float32))
