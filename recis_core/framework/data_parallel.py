"""The dense side of a model under DistributedDataParallel, in whose buckets gradients keep their places."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def data_parallel(model: nn.Module, group: Any) -> nn.Module:
    """The model under DDP with fixed buckets, so that a resumed run rounds as an uninterrupted one.

    DDP rearranges its buckets after its first step, and from three ranks on a gradient's place in a bucket decides the
    order of its sum. Only find_unused_parameters keeps the buckets.
    """
    return DistributedDataParallel(_WithUnused(model), process_group=group, find_unused_parameters=True)


class _WithUnused(nn.Module):
    """A model beside a parameter of one number that no forward uses.

    Without an unused parameter find_unused_parameters prints a warning on stderr, which Python cannot filter. This
    one is in no optimizer and no state, and never gets a gradient.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.unused = nn.Parameter(torch.zeros(1, device=device))
        ignored = getattr(model, "_ddp_params_and_buffers_to_ignore", ())
        self._ddp_params_and_buffers_to_ignore = [f"model.{name}" for name in ignored]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)
