"""Small training runs that save and go on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F

from recis_core.optim import clip_grad_norm_
from recis_core.serialize import CheckpointManager, DeltaPolicy, KeepLast, tables_sha256
from tests.exchange.models import Model, batch, optimizer_of, share


class Counting:
    """A reader, or a metric: an object with a state."""

    def __init__(self) -> None:
        self.seen = 0

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


class Run:
    """option: of the tables. Noise of torch's generator is in each step, so that its state matters."""

    def __init__(self, rank: int = 0, world: int = 1, kind: str = "adam", seed: int = 5, **option: Any) -> None:
        self.rank, self.world = rank, world
        self.model = Model(**option)
        with torch.no_grad():
            for parameter in self.model.tower.parameters():
                parameter += seed * 0.01
        self.optimizer = optimizer_of(self.model, kind)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 3, 0.5)
        self.data, self.metric = Counting(), Counting()
        self.losses: list[float] = []
        torch.manual_seed(seed)

    def manager(self, directory: object, **how: Any) -> CheckpointManager:
        manager = CheckpointManager(str(directory), **{"save": None, "keep": None} | how)
        manager.register(
            model=self.model,
            optimizer=self.optimizer,
            data=self.data,
            schedulers={"lr": self.schedule},
            metric=self.metric,
        )
        return manager

    def step(self, steps: Iterable[int]) -> None:
        for step in steps:
            mine = batch(step, share(self.rank, self.world))
            logits = self.model(mine)
            noise = 0.01 * torch.randn(24)[share(self.rank, self.world)]
            loss = F.binary_cross_entropy_with_logits(logits + noise, mine["label"], reduction="sum") / 24 * self.world
            self.optimizer.zero_grad()
            loss.backward()
            self._mean_of_dense()
            clip_grad_norm_(self.optimizer, 0.5)
            self.optimizer.step()
            self.schedule.step()
            self.data.seen += 1
            self.metric.seen += 2
            self.losses.append(loss.item())

    def _mean_of_dense(self) -> None:
        if self.world > 1:
            for parameter in self.model.tower.parameters():
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= self.world

    def tables(self) -> dict[str, Any]:
        return self.model.engine.sparse_parameters()

    def sha(self) -> str:
        return tables_sha256(self.tables())

    def state(self) -> tuple[Any, ...]:
        """All that a checkpoint keeps; tables by their digest."""
        dense = {name: value.tolist() for name, value in self.model.tower.state_dict().items()}
        rates = [group["lr"] for group in self.optimizer.param_groups]
        t = self.optimizer.sparse.state_dict()["t"]
        return self.sha(), dense, rates, t, self.data.seen, self.metric.seen, torch.get_rng_state().tolist()


def deltas_go_round(directory: str) -> None:
    """Four checkpoints, of which a full one and its delta are kept; they are restored."""
    run, again = Run(), Run(seed=6)
    manager = run.manager(directory, delta=DeltaPolicy(2), keep=KeepLast(1))
    for step in range(1, 5):
        run.step([step])
        manager.save(step)
    manager.close()
    assert manager.steps() == [3, 4]
    again.manager(directory).restore()
    assert again.state() == run.state()
