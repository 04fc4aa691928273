"""The dense side of a model under DistributedDataParallel, in whose buckets gradients keep their places."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def data_parallel(model: nn.Module, group: Any) -> nn.Module:
    """Under DDP whose buckets stay as they are.

    Otherwise DDP lays them out anew after its first step. From three ranks on, the order of an all-reduce's sums goes by
    the place in a bucket, so the first step after resuming would round otherwise than the same step of a run that went on.
    DDP offers no other way to that than find_unused_parameters.
    """
    return DistributedDataParallel(_WithUnused(model), process_group=group, find_unused_parameters=True)


class _WithUnused(nn.Module):
    """A model beside a parameter of one number that no forward uses.

    find_unused_parameters warns on stderr, past Python's warnings, where it finds none. The parameter is in no
    optimizer and in no state, and it never gets a gradient.
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
