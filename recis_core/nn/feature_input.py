"""What a user hands in for a feature, as ids, offsets and weights.

Sizes: N ids, n of them real, B bags.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.nn.id_input import HASHED, as_ids
from recis_core.ragged import RaggedTensor


@dataclass(frozen=True)
class Padded:
    """Where real ids, [n] of N, lay among padding, and offsets [B + 1] of all."""

    places: Tensor
    count: int
    offsets: Tensor

    def laid_out(self, rows: Tensor) -> Tensor:
        """[N, D] of rows [n, D]: zeros where padding is."""
        return rows.new_zeros(self.count, *rows.shape[1:]).index_copy(0, self.places, rows)


@dataclass(frozen=True)
class FeatureInput:
    """One feature of a batch.

    ids: int64 [N]. offsets: int64 [B + 1]. weights: float32 [N] or None.
    outer: offsets of levels above the bags, outermost first. padded: where padding was left out, what it was.
    """

    name: str
    ids: Tensor
    offsets: Tensor
    weights: Tensor | None
    outer: tuple[Tensor, ...] = ()
    padded: Padded | None = None

    @property
    def bags(self) -> int:
        return len(self.offsets) - 1

    def shaped(self, pooled: Tensor, combiner: str) -> Tensor | RaggedTensor:
        """The output as the input's structure asks for it."""
        if combiner == "none":
            rows, offsets = (pooled, self.offsets) if self.padded is None else self._laid_out(self.padded, pooled)
            return RaggedTensor(rows, [*self.outer, offsets])
        if not self.outer:
            return pooled
        return RaggedTensor(pooled, list(self.outer)).to_dense(0)

    def _laid_out(self, padded: Padded, rows: Tensor) -> tuple[Tensor, Tensor]:
        return padded.laid_out(rows), padded.offsets

    def without(self, padding_id: int) -> FeatureInput:
        """Its real ids, with their weights. Waits for the device, which must say how many there are."""
        real = self.ids != padding_id
        places = real.nonzero()[:, 0]
        if len(places) == len(self.ids):
            return self
        before = torch.cat([self.offsets.new_zeros(1), real.cumsum(0)])
        return replace(
            self,
            ids=self.ids[places],
            offsets=before[self.offsets],
            weights=None if self.weights is None else self.weights[places],
            padded=Padded(places, len(self.ids), self.offsets),
        )


def read_feature(name: str, value: Any, use_weight: bool, padding_id: int | None = None) -> FeatureInput:
    """Raises TypeError for anything but integers in a Tensor, array or RaggedTensor, ValueError for a wrong shape."""
    read = _of_ragged(name, value, use_weight) if isinstance(value, RaggedTensor) else _of_dense(name, value)
    return read if padding_id is None else read.without(padding_id)


def _of_ragged(name: str, value: RaggedTensor, use_weight: bool) -> FeatureInput:
    offsets = value.offsets()
    weight = value.weight() if use_weight else None
    if weight is not None and not weight.is_floating_point():
        raise TypeError(f"weights of feature {name!r} must be floating point; got {weight.dtype}.")
    if value.dtype == torch.uint8:
        raise TypeError(f"feature {name!r} is ragged bytes, uint8, as readers give of a column of text. {HASHED}")
    weights = None if weight is None else weight.float()
    ids = as_ids(value.values(), f"ids of feature {name!r}")
    return FeatureInput(name, ids, offsets[-1], weights, tuple(offsets[:-1]))


def _of_dense(name: str, value: Tensor | np.ndarray) -> FeatureInput:
    ids = as_ids(value, f"ids of feature {name!r}")
    if ids.dim() not in (1, 2):
        raise ValueError(f"feature {name!r} as a Tensor must be [B] or [B, F]; got {list(ids.shape)}.")
    width = 1 if ids.dim() == 1 else ids.shape[1]
    offsets = torch.arange(ids.shape[0] + 1, device=ids.device) * width
    return FeatureInput(name, ids.reshape(-1), offsets, None)
