"""A run that is as small as a run can be: one process, synthetic clicks, hooks called as Hook says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recis_core.hooks import Hook, StepResult
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import JointOptimizer, SparseSGD, join

Batch = dict[str, Any]


class Model(nn.Module):
    """Two features of one table, one of another, and a line over their vectors."""

    def __init__(self, backend: str = "torch", **options: Any) -> None:
        super().__init__()
        item = EmbeddingOption(4, shared_name="item", backend=backend, **options)
        self.embeddings = EmbeddingEngine(
            {"item": item, "seen": item, "user": EmbeddingOption(4, backend=backend, **options)}
        )
        self.line = nn.Linear(12, 1)

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        out = self.embeddings({name: batch[name] for name in self.embeddings.options})
        return self.line(torch.cat([out["item"], out["seen"], out["user"]], 1)).squeeze(1)


def batch_of(step: int, rows: int = 8) -> Batch:
    random = torch.Generator().manual_seed(step)
    ids = {name: torch.randint(0, 50, (rows,), generator=random) for name in ("item", "seen", "user")}
    return ids | {"label": torch.randint(0, 2, (rows,), generator=random).float()}


class FakeRun:
    """Satisfies hooks.Run. saves, evaluations: at which steps; evaluations give `evaluates(step)`.

    like: a run whose model and optimizer this one takes over.
    """

    rank, world = 0, 1

    def __init__(
        self,
        *hooks: Hook,
        model: nn.Module | None = None,
        like: FakeRun | None = None,
        max_steps: int | None = None,
        evaluates: Callable[[int], dict[str, float]] = lambda step: {"auc": 0.5 + step / 1000},
    ) -> None:
        torch.manual_seed(0)
        if like is None:
            self.model = Model() if model is None else model
            tables = self.model.embeddings.sparse_parameters()
            dense = torch.optim.SGD(self.model.parameters(), lr=0.1)
            self.optimizer: JointOptimizer = join(dense, SparseSGD(tables, lr=0.1))
        else:
            self.model, self.optimizer = like.model, like.optimizer
        self.hooks, self.max_steps, self.evaluates = list(hooks), max_steps, evaluates
        self.step = self.rows = self.epoch = self.window = 0
        self.phases: dict[str, float] = dict.fromkeys(("reading", "forward", "backward", "exchange", "update"), 0.0)
        self.last_metrics: dict[str, float] = {}
        self.stopped: str | None = None
        self.saves: list[int] = []
        self.evaluations: list[int] = []

    def call(self, place: str, *args: Any) -> None:
        hooks = reversed(self.hooks) if place.startswith("after") or place == "end" else self.hooks
        for hook in hooks:
            getattr(hook, place)(self, *args)

    def train(self, batches: Iterable[Batch]) -> None:
        """One epoch."""
        try:
            self.call("before_train")
            self.call("before_epoch")
            for batch in batches:
                self._step(batch)
                if self.stopped is not None or self.step == self.max_steps:
                    break
            else:
                self.epoch += 1
                self.call("after_epoch")
            self.call("after_train")
        except BaseException as error:
            self.call("on_error", error)
            raise
        finally:
            self.call("end")

    def _timed(self, phase: str, start: float) -> float:
        now = time.perf_counter()
        self.phases[phase] += now - start
        return now

    def _step(self, batch: Batch) -> None:
        self.call("before_step", batch)
        self.model.train()
        at = time.perf_counter()
        loss = F.binary_cross_entropy_with_logits(self.model(batch), batch["label"])
        at = self._timed("forward", at)
        loss.backward()
        self._timed("backward", at)
        self.model.embeddings.sync_gradients()
        self.call("after_backward")
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step, self.rows = self.step + 1, self.rows + len(batch["label"])
        metrics = {"accuracy": self.step / 100}
        self.call("after_step", StepResult(self.step, loss.item(), len(batch["label"]), metrics=metrics))

    def stop(self, reason: str) -> None:
        self.stopped = reason

    def save(self) -> str:
        self.call("before_save")
        self.saves.append(self.step)
        self.call("after_save", f"step-{self.step}")
        return f"step-{self.step}"

    def evaluate(self) -> Mapping[str, float]:
        self.call("before_evaluate")
        self.evaluations.append(self.step)
        self.last_metrics = self.evaluates(self.step)
        self.call("after_evaluate", self.last_metrics)
        return self.last_metrics

    def state(self) -> dict[str, Any]:
        """What a checkpoint would hold of counts and hooks."""
        counts = {name: getattr(self, name) for name in ("step", "rows", "epoch", "window")}
        return {"counts": counts, "hooks": [hook.state_dict() for hook in self.hooks]}

    def load(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state["counts"])
        for hook, saved in zip(self.hooks, state["hooks"], strict=True):
            hook.load_state_dict(saved)


def batches(first: int, last: int) -> list[Batch]:
    """Those of steps first to last."""
    return [batch_of(step) for step in range(first, last + 1)]
