"""A small model, its data, and a manager in memory, that tests of the Trainer share.

Sizes: B rows of a batch.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recis_core.framework import Trainer, TrainingArguments
from recis_core.hooks import Hook
from recis_core.nn import EmbeddingEngine, EmbeddingOption, UniformInitializer
from recis_core.optim import SparseAdam, SparseSGD, join

DIM = 4


class Clicks(nn.Module):
    """Logits of two features; dropout reads random numbers."""

    def __init__(self, dropout: float = 0.0, backend: str = "torch") -> None:
        super().__init__()
        option = EmbeddingOption(DIM, initializer=UniformInitializer(-0.3, 0.3), backend=backend)
        self.engine = EmbeddingEngine({"user": option, "item": option})
        torch.manual_seed(0)
        self.tower = nn.Sequential(nn.Linear(2 * DIM, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 1))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        out = self.engine({"user": batch["user"], "item": batch["item"]})
        return self.tower(torch.cat([out["user"], out["item"]], 1)).squeeze(1)


class Losing(Clicks):
    """Returns its losses by name, and predictions."""

    def forward(self, batch: dict[str, Tensor]) -> Any:
        logits = super().forward(batch)
        click = F.binary_cross_entropy_with_logits(logits, batch["label"])
        return {"click": click, "size": logits.square().mean()}, logits.sigmoid()


def batch(number: int, rows: int = 8) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(100 + number)
    ids = {name: torch.randint(0, 40, (rows,), generator=draw) for name in ("user", "item")}
    return {**ids, "label": torch.randint(0, 2, (rows,), generator=draw).float()}


def batches(count: int, rows: int = 8) -> list[dict[str, Tensor]]:
    return [batch(k, rows) for k in range(count)]


def cut(whole: dict[str, Tensor], *ends: int) -> list[dict[str, Tensor]]:
    """Its rows as several batches, which end at these rows."""
    begins = [0, *ends[:-1]]
    return [{n: t[a:b] for n, t in whole.items()} for a, b in zip(begins, ends, strict=True)]


def optimizers_of(model: nn.Module, kind: str = "adam", lr: float = 0.05) -> Any:
    tables = model.engine.sparse_parameters()
    if kind == "sgd":
        return join(torch.optim.SGD(model.parameters(), lr=lr), SparseSGD(tables, lr=lr))
    return join(torch.optim.Adam(model.parameters(), lr=lr), SparseAdam(tables, lr=lr))


def trainer_of(
    model: nn.Module | None = None, data: Any = None, evaluation: Any = None, *, kind: str = "adam",
    loss: Any = F.binary_cross_entropy_with_logits, more: dict[str, Any] | None = None, **args: Any,
) -> Trainer:  # fmt: skip
    """args: TrainingArguments'; more: the Trainer's."""
    model = Clicks() if model is None else model
    more = {"loss": loss, **(more or {})}
    if "optimizers" not in more:
        more["optimizers"] = optimizers_of(model, kind)
    data = batches(6) if data is None else data
    return Trainer(model, TrainingArguments(**args), data, evaluation, **more)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Dense parameters, and each table's rows and slots in the order of ids."""
    found = {name: p.detach().clone() for name, p in model.named_parameters()}
    for name, table in model.engine.sparse_parameters().items():
        shot = table.snapshot()
        order = shot.ids.argsort()
        found[f"{name} ids"] = shot.ids[order]
        found[f"{name} rows"] = shot.weights[order]
        found |= {f"{name} {slot}": rows[order] for slot, rows in shot.slots.items()}
    return found


def assert_same_weights(got: nn.Module, want: nn.Module, *, close: bool = False) -> None:
    """The same bits; or, `close`, within float32's rounding."""
    a, b = weights_of(got), weights_of(want)
    assert a.keys() == b.keys()
    for name in b:
        if close:
            torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(a[name], b[name]), name


class Heard(Hook):
    """Notes the places where it is called, and what the steps gave."""

    def __init__(self, name: str = "") -> None:
        self.name, self.places, self.results, self.metrics = name, [], [], []

    def state_dict(self) -> dict[str, Any]:
        return {"losses": [result.loss for result in self.results]}

    def load_state_dict(self, state: Any) -> None:
        self.before = list(state["losses"])

    def after_step(self, run: Any, result: Any) -> None:
        self.places.append(f"{self.name}after_step {run.step}")
        self.results.append(result)

    def after_evaluate(self, run: Any, metrics: Any) -> None:
        self.places.append(f"{self.name}after_evaluate")
        self.metrics.append(dict(metrics))

    def on_error(self, run: Any, error: BaseException) -> None:
        self.places.append(f"{self.name}on_error {type(error).__name__}")


def _noting(place: str) -> Any:
    def note(self: Heard, run: Any, *args: Any) -> None:
        self.places.append(f"{self.name}{place}")

    return note


for _place in (
    "before_train", "after_train", "before_window", "after_window", "before_epoch", "after_epoch", "before_step",
    "after_backward", "before_evaluate", "before_save", "after_save", "end",
):  # fmt: skip
    setattr(Heard, _place, _noting(_place))


class Memory:
    """A manager that keeps states of one rank in memory: model, optimizer, parts with a state_dict, random numbers."""

    def __init__(self, every: int | None = None) -> None:
        self.every, self.saved, self.metrics, self.waited = every, {}, {}, 0

    def register(self, **parts: Any) -> None:
        schedulers = parts.pop("schedulers", {})
        self.model, self.parts = parts.pop("model"), {**parts, **schedulers}

    def due(self, step: int) -> bool:
        return self.every is not None and step % self.every == 0

    def save(self, step: int, metrics: Any = None) -> str:
        states = {name: part.state_dict() for name, part in self.parts.items()}
        states["random"] = (torch.get_rng_state(), np.random.get_state(), random.getstate())
        self.saved[step] = copy.deepcopy({"model": self.model.state_dict(), **states})
        self.metrics[step] = metrics
        return f"step {step}"

    def copy(self) -> Memory:
        other = Memory(self.every)
        other.saved = dict(self.saved)
        return other

    def raise_failure(self) -> None: ...

    def wait(self) -> None:
        self.waited += 1

    def restore(self, step: int | None = None, **how: Any) -> Any:
        if step is None and not self.saved:
            return None
        step = max(self.saved) if step is None else step
        states = copy.deepcopy(self.saved[step])
        self.model.load_state_dict(states.pop("model"))
        numbers = states.pop("random")
        for setting, state in zip((torch.set_rng_state, np.random.set_state, random.setstate), numbers, strict=True):
            setting(state)
        for name, part in self.parts.items():
            part.load_state_dict(states[name])
        return Restored(step)


class Restored:
    def __init__(self, step: int) -> None:
        self.step = step
