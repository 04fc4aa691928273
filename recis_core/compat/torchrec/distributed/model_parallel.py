"""A model on ranks: dense parameters under DDP, tables over the ranks by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from recis_core.compat.torchrec.modules.table_parameter import TableParameter
from recis_core.compat.torchrec.optim.fused import FusedOptimizer


class DistributedModelParallel(nn.Module):
    """The model, with its dense parameters under DDP if there are several ranks. Names of parameters and states stay as they are.

    Tables made after torch.distributed.init_process_group are spread over its ranks: make the collections then, on each rank.

    Args:
      module: the model.
      device: of dense parameters; None leaves them where they are.
      init_data_parallel: whether to wrap dense parameters in DDP.
      env, plan, sharders: must be left out, for a hash of ids says where rows lie.

    Raises:
      ValueError: an argument that must be left out was given.

    As torchrec.distributed.DistributedModelParallel.
    """

    def __init__(
        self,
        module: nn.Module,
        env: None = None,
        device: torch.device | None = None,
        plan: None = None,
        sharders: None = None,
        init_data_parallel: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("env", env), ("plan", plan), ("sharders", sharders)):
            if value is not None:
                raise ValueError(
                    f"{name} must be left out; got {type(value).__name__}. A hash of ids says where rows lie, and "
                    "table_options={table: {'sharding': …}} of a collection chooses otherwise."
                )
        module = module if device is None else module.to(device)
        self._dmp_wrapped_module: nn.Module = module
        self._inner = (module,)
        if init_data_parallel:
            self.init_data_parallel()

    def init_data_parallel(self) -> None:
        """Wrap the dense parameters in DDP, if there are several ranks and it is not done."""
        several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if not several or isinstance(self._dmp_wrapped_module, DistributedDataParallel):
            return
        named = dict(self.module.named_parameters())
        tables = [name for name, parameter in named.items() if isinstance(parameter, TableParameter)]
        if any(p.requires_grad for name, p in named.items() if name not in tables):
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.module, tables)
            self._dmp_wrapped_module = DistributedDataParallel(self.module)

    @property
    def module(self) -> nn.Module:
        """The model itself."""
        return self._inner[0]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._dmp_wrapped_module(*args, **kwargs)

    @property
    def fused_optimizer(self) -> FusedOptimizer:
        """The optimizers in backward of all tables, for their states and learning rates."""
        return FusedOptimizer(self.module)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        return self.module.named_parameters(*args, **kwargs)

    def named_buffers(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, torch.Tensor]]:
        return self.module.named_buffers(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.module.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        return self.module.load_state_dict(state_dict, *args, **kwargs)
