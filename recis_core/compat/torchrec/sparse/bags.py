"""What jagged tensors of one feature and of several have: values, weights, and where bags begin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recis_core.compat.torchrec.sparse.lengths import check_integers, require_one, require_weights, to_offsets
from recis_core.compat.torchrec.streamable import Pipelineable


class Bags(Pipelineable):
    """Raises ValueError where neither lengths nor offsets are given; TypeError where they are no integers."""

    def __init__(self, values: Tensor, weights: Tensor | None, lengths: Tensor | None, offsets: Tensor | None) -> None:
        require_one(lengths, offsets)
        check_integers("lengths", lengths)
        check_integers("offsets", offsets)
        self._values, self._weights, self._lengths, self._offsets = values, weights, lengths, offsets

    def values(self) -> Tensor:
        return self._values

    def weights(self) -> Tensor:
        """Raises ValueError if there are none."""
        return require_weights(self._weights)

    def weights_or_none(self) -> Tensor | None:
        return self._weights

    def lengths(self) -> Tensor:
        if self._lengths is None:
            self._lengths = self.offsets().diff()
        return self._lengths

    def lengths_or_none(self) -> Tensor | None:
        return self._lengths

    def offsets(self) -> Tensor:
        if self._offsets is None:
            self._offsets = to_offsets(self.lengths())
        return self._offsets

    def offsets_or_none(self) -> Tensor | None:
        return self._offsets

    def device(self) -> torch.device:
        return self._values.device

    def record_stream(self, stream: Any) -> None:
        for tensor in (self._values, self._weights, self._lengths, self._offsets):
            if tensor is not None:
                tensor.record_stream(stream)
