"""The dense side of a step, as RecIS has it by accelerate: DDP, and one update each n micro-steps.

The gradient of n micro-steps is their sum, not divided by n. accelerate's loop as RecIS 1.0 runs it drops all but the last.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, distributed, nn

PRECISIONS = (None, "no", "bf16")


class DenseSide:
    """The model with its optimizer and scheduler.

    Args:
      steps: micro-steps of an update, n.
      mixed_precision: None, "no" or "bf16" (autocast).

    Raises:
      ValueError: another mixed_precision.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        scheduler: Any,
        steps: int,
        mixed_precision: str | None = None,
    ) -> None:
        if mixed_precision not in PRECISIONS:
            raise ValueError(
                f"mixed_precision must be no or bf16; got {mixed_precision!r}. For fp16 with a scaler there is "
                "recis_core.framework.Trainer."
            )
        self.optimizer, self.scheduler, self.steps, self.done = optimizer, scheduler, steps, 0
        self.bf16 = mixed_precision == "bf16"
        self.world = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
        self.model = _in_parallel(model) if self.world > 1 else model

    @property
    def updates(self) -> bool:
        """Whether the micro-step under way is the n-th."""
        return (self.done + 1) % self.steps == 0

    def zero_grad(self) -> None:
        if self.optimizer is not None and self.done % self.steps == 0:
            self.optimizer.zero_grad()

    def loss(self, data: Any) -> Tensor:
        """The model's forward, in bf16 if asked for."""
        if not self.bf16:
            return self.model(data)
        device = next((p.device.type for p in self.model.parameters()), "cpu")
        with torch.autocast(device, dtype=torch.bfloat16):
            return self.model(data).float()

    def micro_step(self) -> AbstractContextManager[Any]:
        """Around a forward and backward: DDP reduces gradients in the n-th alone."""
        alone = isinstance(self.model, nn.parallel.DistributedDataParallel) and not self.updates
        return self.model.no_sync() if alone else nullcontext()  # type: ignore[operator]

    def step(self) -> None:
        """Update in the n-th micro-step."""
        if self.updates and self.optimizer is not None:
            self.optimizer.step()

    def schedule(self) -> None:
        """Step the scheduler after an update: once for each rank, as accelerate does. Ends the micro-step."""
        if self.updates and self.scheduler is not None:
            for _ in range(self.world):
                self.scheduler.step()
        self.done += 1


def _in_parallel(model: nn.Module) -> nn.Module:
    """DDP, if a parameter needs it."""
    if not any(p.requires_grad for p in model.parameters()):
        return model
    device = next(model.parameters()).device
    ids = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=ids, find_unused_parameters=True)
