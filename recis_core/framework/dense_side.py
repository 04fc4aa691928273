"""How ranks hold the dense side of a model, in which precision it runs, and whether it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from recis_core.backends.errors import RecisError
from recis_core.framework.data_parallel import data_parallel
from recis_core.framework.ranks import Ranks
from recis_core.framework.training_arguments import TrainingArguments
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import JointOptimizer

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class DenseSide:
    """forward: the model as a training forward calls it. device: of its parameters. scaler: None but for fp16."""

    def __init__(self, model: nn.Module, args: TrainingArguments, ranks: Ranks, optimizer: JointOptimizer) -> None:
        self._dtype = DTYPES.get(args.mixed_precision or "")
        self.device = _device_of(model)
        self.scaler = torch.amp.GradScaler(self.device.type) if args.mixed_precision == "fp16" else None
        if self.scaler is not None:
            optimizer.sparse.require_no_overlap()
        if args.parallel == "fsdp2" and ranks.world > 1:
            _shard(model, optimizer, ranks, self.device)
        if args.compile:
            model.compile(backend="inductor" if args.compile is True else args.compile)
        wrapped = args.parallel == "ddp" and ranks.world > 1 and not isinstance(model, DistributedDataParallel)
        self.forward: Callable[[Any], Any] = data_parallel(model, ranks.group) if wrapped else model
        self._averages_when = getattr(model, "set_requires_gradient_sync", None)  # of FSDP2

    def autocast(self) -> AbstractContextManager[Any]:
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self._dtype)

    def micro_step(self, last: bool) -> AbstractContextManager[Any]:
        """Around forward and backward of one batch: ranks average dense gradients in the last one of a step."""
        if isinstance(self.forward, DistributedDataParallel):
            return nullcontext() if last else self.forward.no_sync()
        if self._averages_when is not None:
            self._averages_when(last)
        return nullcontext()


def _device_of(model: nn.Module) -> torch.device:
    parameter = next(iter(model.parameters()), None)
    if parameter is not None:
        return parameter.device
    return next((table.physical.device for table in filter_out_sparse_param(model).values()), torch.device("cpu"))


def _shard(model: nn.Module, optimizer: JointOptimizer, ranks: Ranks, device: torch.device) -> None:
    """fully_shard the model, and let the optimizer step its new parameters."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    if optimizer.dense.state:
        raise RecisError(
            "parallel='fsdp2' shards the model's parameters, and this optimizer has stepped them whole. Give the Trainer a "
            "new optimizer; or shard the model yourself before making it, with parallel='none'."
        )
    before = {id(parameter): name for name, parameter in model.named_parameters()}
    mesh = DeviceMesh.from_group(ranks.group, device.type)
    fully_shard(model, mesh=mesh)
    after = dict(model.named_parameters())
    for group in optimizer.dense.param_groups:
        group["params"] = [after[before[id(p)]] if id(p) in before else p for p in group["params"]]
