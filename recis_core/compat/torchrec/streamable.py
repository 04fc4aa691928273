"""Base names of what a pipeline moves between devices, as torchrec.streamable has them."""

from __future__ import annotations

from typing import Any

import torch


class Multistreamable:
    """Something whose tensors are used on a stream other than the one that made them."""

    def record_stream(self, stream: Any) -> None:
        """Tell the allocator that this stream uses the tensors."""
        raise NotImplementedError(f"{type(self).__name__} must say record_stream(stream).")


class Pipelineable(Multistreamable):
    """A batch, or a part of one, that a pipeline can send to a device."""

    def to(self, device: torch.device, non_blocking: bool = False) -> Any:
        """The same on the device."""
        raise NotImplementedError(f"{type(self).__name__} must say to(device, non_blocking).")
