"""One feature's input as ids, offsets and weights.

Sizes: N ids, n of them no padding, B bags.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recis_core.nn.id_input import HASHED, as_ids
from recis_core.ragged import RaggedTensor

if TYPE_CHECKING:
    from recis_core.nn.hash_table import HashTable


@dataclass(frozen=True)
class Padded:
    """A feature's ids before padding was removed.

    places: int64 [n], positions of the ids that are no padding. count: N. offsets: int64 [B + 1], with padding.
    """

    places: Tensor
    count: int
    offsets: Tensor

    def laid_out(self, rows: Tensor) -> Tensor:
        """Rows [n, D] to [N, D]; padding gets zeros."""
        return rows.new_zeros(self.count, *rows.shape[1:]).index_copy(0, self.places, rows)


@dataclass(frozen=True)
class FeatureInput:
    """One feature of a batch.

    ids: int64 [N]. offsets: int64 [B + 1]. bags: B. weights: float32 [N] or None.
    outer: offsets of the levels above the bags, outermost first. padded: the layout before padding was removed.
    width: ids in each bag, if all bags have the same number; features of one width share one offsets tensor.
    """

    name: str
    ids: Tensor
    offsets: Tensor
    bags: int
    weights: Tensor | None
    outer: tuple[Tensor, ...] = ()
    padded: Padded | None = None
    width: int | None = None

    def shaped(self, pooled: Tensor, combiner: str) -> Tensor | RaggedTensor:
        """The output in the structure of the input."""
        if combiner == "none":
            rows, offsets = (pooled, self.offsets) if self.padded is None else self._laid_out(self.padded, pooled)
            return RaggedTensor(rows, [*self.outer, offsets if self.width is None else offsets.clone()])
        if not self.outer:
            return pooled
        return RaggedTensor(pooled, list(self.outer)).to_dense(0)

    def _laid_out(self, padded: Padded, rows: Tensor) -> tuple[Tensor, Tensor]:
        return padded.laid_out(rows), padded.offsets

    def without(self, padding_id: int) -> FeatureInput:
        """The feature without padding. Waits for the device: the number of ids left is not known before."""
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
            width=None,
        )


Offsets = dict[tuple[int, int, torch.device], Tensor]  # of bags of equal width, by (bags, width, device)


def equal_offsets(bags: int, width: int, device: torch.device) -> Tensor:
    """int64 [bags + 1], of bags of `width` ids each."""
    if width == 0:
        return torch.zeros(bags + 1, dtype=torch.int64, device=device)
    return torch.arange(0, bags * width + 1, width, device=device)


@dataclass(frozen=True)
class FeatureReader:
    name: str
    use_weight: bool
    padding_id: int | None
    table: HashTable
    device: torch.device

    def read(self, value: Any, offsets: Offsets) -> FeatureInput:
        """Read one feature; `offsets` holds offsets of bags of equal width, see Offsets, for all features of a forward.

        Raises:
          TypeError: value is no Tensor, array or RaggedTensor of integers. ValueError: its shape or device is wrong.
        """
        read = self._of_ragged(value) if isinstance(value, RaggedTensor) else self._of_dense(value, offsets)
        if read.ids.device != self.device:
            self.table.check_ids(read.ids, self.name)
        return read if self.padding_id is None else read.without(self.padding_id)

    def _of_ragged(self, value: RaggedTensor) -> FeatureInput:
        offsets = value.offsets()
        weight = value.weight() if self.use_weight else None
        if weight is not None and not weight.is_floating_point():
            raise TypeError(f"weights of feature {self.name!r} must be floating point; got {weight.dtype}.")
        if value.dtype == torch.uint8:
            raise TypeError(
                f"feature {self.name!r} is ragged bytes, uint8, as readers give of a column of text. {HASHED}"
            )
        weights = None if weight is None else weight.float()
        ids = as_ids(value.values(), f"ids of feature {self.name!r}")
        return FeatureInput(self.name, ids, offsets[-1], len(offsets[-1]) - 1, weights, tuple(offsets[:-1]))

    def _of_dense(self, value: Tensor | np.ndarray, offsets: Offsets) -> FeatureInput:
        ids = (
            value
            if type(value) is Tensor and value.dtype is torch.int64
            else as_ids(value, f"ids of feature {self.name!r}")
        )
        if len(shape := ids.shape) == 1:
            bags, width, flat = shape[0], 1, ids
        elif len(shape) == 2:
            bags, width, flat = *shape, ids.reshape(-1)
        else:
            raise ValueError(f"feature {self.name!r} as a Tensor must be [B] or [B, F]; got {list(shape)}.")
        key = bags, width, ids.device
        if key not in offsets:
            offsets[key] = equal_offsets(*key)
        return FeatureInput(self.name, flat, offsets[key], bags, None, width=width)
