"""MMoE: its formula, and several tasks under a Trainer."""

from __future__ import annotations

import pytest
import torch

from recis_core.framework import Trainer, TrainingArguments
from recis_core.io import SyntheticTasks
from recis_core.metrics import AUROC
from recis_core.models import MMoE, task_losses
from recis_core.optim import SparseAdam, join

IDS = {"a": torch.tensor([1, 2, 3]), "b": torch.tensor([9, 9, 7])}


def test_it_is_its_formula():
    model = MMoE(["a", "b"], ["click", "train"], 4, dense=2, experts=3, expert=(5, 6), tower=(4,), backend="torch")
    batch = {**IDS, "dense": torch.randn(3, 2)}
    rows = model.embeddings(IDS)
    x = torch.cat([rows["a"], rows["b"], batch["dense"]], 1)
    logits = model(batch)
    assert list(logits) == ["click", "train"]  # a task may have the name of a method
    for task, gate, tower in zip(logits, model.gates, model.towers, strict=True):
        parts = torch.softmax(x @ gate.weight.T, 1)
        seen = sum(parts[:, e, None] * expert(x) for e, expert in enumerate(model.experts))
        torch.testing.assert_close(logits[task], tower(seen)[:, 0])
    assert not torch.allclose(logits["click"], logits["train"])


def test_losses_of_tasks():
    logits = {"click": torch.tensor([0.0, 2.0]), "buy": torch.tensor([-1.0, 0.0])}
    labels = {"click": torch.tensor([1, 0]), "buy": torch.tensor([0.0, 1.0]), "user": torch.tensor([1, 2])}
    losses = task_losses(logits, labels)
    assert losses["click"].tolist() == pytest.approx([0.6931, 2.1269], abs=1e-4)
    assert losses["buy"].tolist() == pytest.approx([0.3133, 0.6931], abs=1e-4)
    with pytest.raises(KeyError, match="'buy'.*have none in .*'click'"):
        task_losses(logits, {"click": labels["click"]})


def test_a_trainer_weighs_its_losses():
    log = SyntheticTasks("tiny")
    model = MMoE([field.name for field in log.preset.fields], log.tasks, 4, expert=(8,), tower=(), backend="torch")
    both = join(torch.optim.Adam(model.parameters()), SparseAdam(model.embeddings.sparse_parameters()))
    trainer = Trainer(
        model, TrainingArguments(label=None, loss_weights={"buy": 0.2}), log.dataset(64, stop=128),
        log.dataset(64, start=128, stop=256), optimizers=both, loss=task_losses,
        predict=lambda logits: {task: each.sigmoid() for task, each in logits.items()},
        metrics={f"auc_{t}": (AUROC(), lambda p, batch, t=t: (p[t], batch[t])) for t in log.tasks},
    )  # fmt: skip
    batch = next(iter(log.dataset(64, stop=64)))
    found = trainer.train_step([batch])
    model.eval()
    assert found.loss == pytest.approx(found.losses["click"] + 0.2 * found.losses["buy"], rel=1e-5)
    assert {"auc_click", "auc_buy"} <= set(trainer.evaluate())


@pytest.mark.parametrize(
    ("tasks", "kwargs", "said"),
    [
        ([], {}, "tasks must be distinct names, one at least"),
        (["a", "a"], {}, "distinct"),
        ("click", {}, "got 'click'"),
        (["a"], {"experts": 0}, "got experts=0"),
        (["a"], {"expert": ()}, r"expert=\(\)"),
    ],
)
def test_wrong_arguments_are_named(tasks, kwargs, said):
    with pytest.raises(ValueError, match=said):
        MMoE(["a"], tasks, 4, backend="torch", **kwargs)
