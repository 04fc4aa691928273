"""TrainingArguments(prefetch=n): batches are read ahead, with the same bits, and checkpoints tell of the batches trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recis_core.framework import Trainer, TrainingArguments
from recis_core.hooks import Hook
from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption, UniformInitializer
from tests.framework.test_trainer_data import dataset, folder, windows
from tests.framework.trainers import DIM, Clicks, Memory, assert_same_weights, batches, optimizers_of

__all__ = ["folder"]


class Ahead(Clicks):
    """Rows of a table on the device, 16 of them, and the others in host memory."""

    def __init__(self, cached: bool = True) -> None:
        super().__init__(dropout=0.2)
        option = EmbeddingOption(
            DIM, initializer=UniformInitializer(-0.3, 0.3), backend="torch",
            cache=CacheConfig(device_rows=32, host_rows=200) if cached else None,
        )  # fmt: skip
        self.engine = EmbeddingEngine({"user": option, "item": option})

    def sparse_features(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: batch[name] for name in ("user", "item")}


class Stopping(Hook):
    def __init__(self, step: int) -> None:
        self.at = step

    def after_step(self, run: Any, result: Any) -> None:
        if run.step == self.at:
            run.stop("it is enough")


def trained(data: Any, prefetch: int, manager: Memory | None = None, hooks: Any = (), **args: Any) -> Trainer:
    model = Ahead()
    trainer = Trainer(
        model, TrainingArguments(prefetch=prefetch, **args), data, batches(2, 20), optimizers=optimizers_of(model),
        loss=F.binary_cross_entropy_with_logits, checkpoints=manager, hooks=hooks,
    )  # fmt: skip
    torch.manual_seed(3)
    if manager is not None:
        trainer.restore()
    return trainer


@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_same_bits_with_evaluations_between(accumulation: int) -> None:
    how = {"train_epoch": 2, "eval_steps": 2, "gradient_accumulation_steps": accumulation}
    want = trained(batches(7), 0, **how)
    want.train()
    got = trained(batches(7), 3, **how)
    got.train()
    assert got.step == want.step == 2 * -(-7 // accumulation)
    assert got.last_metrics == want.last_metrics
    assert_same_weights(got.model, want.model)


def data_of(kind: str, folder: Any) -> Any:
    return {"list": lambda: batches(9), "files": lambda: dataset(folder), "windows": lambda: windows(folder)}[kind]()


@pytest.mark.parametrize("kind", ["list", "files", "windows"])
def test_a_checkpoint_in_a_pass_goes_on_after_the_batches_that_were_trained(kind: str, folder: Any) -> None:
    """However many were read ahead; in another Trainer, and in the same one that was stopped."""
    want = trained(data_of(kind, folder), 0)
    want.train()
    manager = Memory(every=1)
    stopped = trained(data_of(kind, folder), 4, manager, [Stopping(4)])
    stopped.train()
    assert stopped.step == 4
    kept = manager.copy()
    stopped.train()
    resumed = trained(data_of(kind, folder), 4, kept, [Stopping(4)])
    resumed.train()
    for each in (stopped, resumed):
        assert each.step == want.step
        assert_same_weights(each.model, want.model)


class Nothing(Clicks):
    sparse_features: Any = None


class Two(Ahead):
    def __init__(self) -> None:
        super().__init__(cached=False)
        self.more = EmbeddingEngine({"query": EmbeddingOption(DIM, backend="torch")})


@pytest.mark.parametrize(
    ("model", "data", "kind", "said"),
    [
        (Nothing, batches(2), TypeError, r"sparse_features\(batch\).*Nothing has none"),
        (Two, batches(2), ValueError, "one EmbeddingEngine; Two has 2"),
        (
            lambda: Ahead(cached=False),
            iter(batches(2)),
            ValueError,
            "an iterator gives what was read ahead no second time",
        ),
    ],
)
def test_what_cannot_be_read_ahead_is_refused(model: Any, data: Any, kind: type[Exception], said: str) -> None:
    made: nn.Module = model()
    with pytest.raises(kind, match=said):
        Trainer(made, TrainingArguments(prefetch=2), data, optimizers=optimizers_of(made))


def test_threads_need_what_they_stand_beside() -> None:
    with pytest.raises(ValueError, match="prefetch_threads needs prefetch"):
        TrainingArguments(prefetch_threads=1)
    for wrong, kind in ((-1, ValueError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(kind, match="prefetch must be"):
            TrainingArguments(prefetch=wrong)  # type: ignore[arg-type]
