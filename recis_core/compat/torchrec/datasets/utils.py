"""The batch of TorchRec's data sets.

Sizes: B rows, F dense features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recis_core.compat.torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from recis_core.compat.torchrec.streamable import Pipelineable


@dataclass
class Batch(Pipelineable):
    """dense_features: floats [B, F]. labels: [B]. As torchrec.datasets.utils.Batch."""

    dense_features: Tensor
    sparse_features: KeyedJaggedTensor
    labels: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        return self._by(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        return self._by(lambda part: part.pin_memory())

    def record_stream(self, stream: Any) -> None:
        for part in (self.dense_features, self.sparse_features, self.labels):
            part.record_stream(stream)

    def _by(self, change: Callable[[Any], Any]) -> Batch:
        return Batch(change(self.dense_features), change(self.sparse_features), change(self.labels))
