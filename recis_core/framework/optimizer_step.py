"""One optimizer step over a group of batches: forwards, backwards, exchange, clipping, update.

Sizes: W ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.framework.dense_side import DenseSide
from recis_core.framework.hook_calls import HookCalls
from recis_core.framework.micro_batches import MicroBatches
from recis_core.framework.objective import Losses, Objective
from recis_core.framework.phases import Phases
from recis_core.framework.ranks import Ranks
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import JointOptimizer, clip_grad_norm_
from recis_core.plain_torch import in_plain_torch
from recis_core.uninterrupted import as_one


@dataclass(frozen=True)
class Trained:
    """means: of the loss, then of each loss by name, over the rows of all ranks. stepped: False where a GradScaler
    skipped the step, whose gradients were not finite."""

    means: dict[str, float]
    stepped: bool


class OptimizerStep:
    """observe: called with the outputs and batch of each forward that has rows, before the update."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: JointOptimizer,
        objective: Objective,
        dense: DenseSide,
        ranks: Ranks,
        hooks: HookCalls,
        phases: Phases,
        *,
        max_grad_norm: float | None = None,
        observe: Callable[[Any, Any], None] | None = None,
    ) -> None:
        self._model, self._optimizer, self._objective, self._dense = model, optimizer, objective, dense
        self._ranks, self._hooks, self._phases = ranks, hooks, phases
        self._max_grad_norm, self._observe = max_grad_norm, observe
        self._tables = list({t.physical: None for t in filter_out_sparse_param(model).values()})

    def __call__(self, group: MicroBatches) -> Trained:
        """Collective."""
        if not self._model.training:
            self._model.train()
        self._optimizer.zero_grad()
        weights = group.weights(self._ranks.world)
        seen: list[tuple[Losses, float]] = []
        last = len(group.batches) - 1
        names: Sequence[str] = ()
        for k, (batch, rows, weight) in enumerate(zip(group.batches, group.rows, weights, strict=True)):
            self._hooks.call("before_step", batch)
            losses = self._micro_step(batch, rows, weight, last=k == last)
            names = list(losses.by_name)
            if rows:
                seen.append((losses, weight))
        with self._phases("exchange"):
            self._exchange()
            self._unscale()
        self._hooks.call("after_backward")
        with self._phases("update"):
            stepped = self._update()
        return Trained(self._means(["loss", *names], seen), stepped)

    def _micro_step(self, batch: Any, rows: int, weight: float, *, last: bool) -> Losses:
        with self._dense.micro_step(last):
            with self._phases("forward"):
                with self._dense.autocast():
                    outputs = self._dense.forward(batch)
                    losses = self._objective.losses(outputs, batch)
                if rows and self._observe is not None:
                    self._observe(outputs, batch)
            with self._phases("backward"):
                total = losses.total if weight == 1 else losses.total * weight
                (total if self._dense.scaler is None else self._dense.scaler.scale(total)).backward()
        return losses

    @in_plain_torch
    @as_one
    def _exchange(self) -> None:
        """What several backwards left is summed, and sent to the owners of the rows."""
        for table in self._tables:
            if table.has_gradient:
                table.sync()

    def _unscale(self) -> None:
        if self._dense.scaler is not None:
            self._dense.scaler.unscale_(self._optimizer)

    def _update(self) -> bool:
        if self._max_grad_norm is not None:
            clip_grad_norm_(self._optimizer, self._max_grad_norm)
        scaler = self._dense.scaler
        if scaler is None:
            self._optimizer.step()
            return True
        scaler.step(self._optimizer)
        before = scaler.get_scale()
        scaler.update()
        return scaler.get_scale() >= before

    def _means(self, names: list[str], seen: list[tuple[Losses, float]]) -> dict[str, float]:
        """Over ranks: each rank's sum is of its rows, times W. Read after the step, for on a GPU that waits for it."""
        if self._ranks.channel is None and len(seen) == 1:
            return dict(zip(names, (value.item() for value in _values(seen[0][0])), strict=True))
        parts = [torch.stack(_values(losses)).double() * weight for losses, weight in seen]
        here = torch.stack(parts).sum(0) if parts else torch.zeros(len(names), dtype=torch.float64)
        means = self._ranks.summed(here) / self._ranks.world
        return dict(zip(names, means.tolist(), strict=True))


def _values(losses: Losses) -> list[Tensor]:
    """The loss, then losses by name."""
    return [value.detach() for value in (losses.total, *losses.by_name.values())]
