"""Precision, schedules, compilation, torchmetrics: each as by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchmetrics
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR

from recis_core.metrics import GAUC
from recis_core.optim import SparseAdam, clip_grad_norm_
from tests.framework.trainers import (
    Clicks,
    Heard,
    assert_same_weights,
    batches,
    optimizers_of,
    trainer_of,
)


def by_hand(dtype, scaler=None, clip=None):
    model, losses = Clicks(), []
    optimizer = optimizers_of(model)
    for each in batches(4):
        with torch.autocast("cpu", dtype):
            loss = F.binary_cross_entropy_with_logits(model(each), each["label"])
        optimizer.zero_grad()
        (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is None:
            optimizer.step()
        else:
            scaler.unscale_(optimizer)
            clip_grad_norm_(optimizer, clip)
            scaler.step(optimizer)
            scaler.update()
        losses.append(loss.item())
    return model, losses


def test_bfloat16_is_autocast():
    model, losses = by_hand(torch.bfloat16)
    heard = Heard()
    trainer = trainer_of(data=batches(4), more={"hooks": [heard]}, mixed_precision="bf16")
    trainer.train()
    assert_same_weights(trainer.model, model)
    assert [result.loss for result in heard.results] == losses
    plain = trainer_of(data=batches(4))
    plain.train()
    with pytest.raises(AssertionError):
        assert_same_weights(plain.model, model)


def test_float16_is_a_plain_scaler_over_both_sides():
    model, losses = by_hand(torch.float16, torch.amp.GradScaler("cpu"), clip=0.05)
    heard = Heard()
    trainer = trainer_of(data=batches(4), more={"hooks": [heard]}, mixed_precision="fp16", max_grad_norm=0.05)
    trainer.train()
    assert_same_weights(trainer.model, model)
    assert [result.loss for result in heard.results] == losses


def test_a_step_whose_gradients_are_not_finite_is_skipped_on_both_sides_and_in_schedules():
    class Poisoned(Clicks):
        forwards = 0

        def forward(self, batch):
            self.forwards += 1
            return super().forward(batch) * (float("inf") if self.forwards == 2 else 1.0)

    model = Poisoned()
    optimizer = optimizers_of(model)
    schedule = StepLR(optimizer, 1, 0.5)
    trainer = trainer_of(
        model, batches(3), mixed_precision="fp16", more={"optimizers": optimizer, "schedulers": schedule}
    )
    trainer.train()
    data = batches(3)
    want = trainer_of(data=[data[0], data[2]], mixed_precision="fp16")
    rates = StepLR(want.optimizer, 1, 0.5)
    for each in (data[0], data[2]):
        want.train_step([each])
        rates.step()
    assert trainer.step == 3
    assert schedule.last_epoch == 2
    assert_same_dense(trainer.model, want.model)


def assert_same_dense(got, want):
    """A skipped step has inserted ids; so rows are compared where both have them."""
    for (name, a), (_, b) in zip(got.named_parameters(), want.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


def test_schedules_of_both_sides_or_of_each():
    def run(scheduled):
        model = Clicks()
        optimizer = optimizers_of(model)
        trainer = trainer_of(model, more={"optimizers": optimizer, "schedulers": scheduled(optimizer)})
        trainer.train()
        return [group["lr"] for group in optimizer.param_groups]

    assert run(lambda joint: StepLR(joint, 2, 0.1)) == pytest.approx([0.05e-3] * 2)
    apart = run(lambda joint: {"dense": CosineAnnealingLR(joint.dense, 6), "sparse": StepLR(joint.sparse, 3, 0.1)})
    assert apart == pytest.approx([0.0, 0.05e-2], abs=1e-9)


def test_a_plateau_steps_by_a_metric_of_evaluations():
    def run(**args):
        model = Clicks()
        optimizer = optimizers_of(model)
        plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=0, threshold=10.0)
        more = {"optimizers": optimizer, "schedulers": [plateau]}
        trainer_of(model, evaluation=batches(1), more=more, eval_steps=1, **args).train()
        return optimizer.param_groups[0]["lr"]

    assert run(metric_for_best="loss") < 0.05
    with pytest.raises(ValueError, match="TrainingArguments\\(metric_for_best=…\\) must name it"):
        run()
    with pytest.raises(KeyError, match="metric_for_best='auc' must be a metric of the evaluation; got"):
        run(metric_for_best="auc")
    with pytest.raises(TypeError, match="scheduler '0' must be one of torch.optim.lr_scheduler; got float"):
        trainer_of(more={"schedulers": [0.1]})


def test_the_dense_part_is_compiled():
    torch._dynamo.reset()
    plain, graphs = trainer_of(), []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.register_backend(counting, name="counting")
    compiled = trainer_of(compile="counting")
    for trainer in (plain, compiled):
        trainer.train()
    assert graphs
    assert_same_weights(compiled.model, plain.model, close=True)
    torch._dynamo.reset()


def test_torchmetrics_and_metrics_by_group():
    metrics = {
        "accuracy": torchmetrics.classification.BinaryAccuracy(),
        "gauc": (GAUC(), lambda predictions, batch: (predictions, batch["label"], batch["user"])),
    }
    found = trainer_of(evaluation=batches(3), more={"metrics": metrics}).evaluate()
    assert 0 <= found["accuracy"] <= 1
    assert 0 <= found["gauc"] <= 1


def test_a_pair_of_optimizers_is_joined():
    model = Clicks()
    dense, sparse = torch.optim.Adam(model.parameters(), lr=0.05), SparseAdam(model.engine.sparse_parameters(), lr=0.05)
    with pytest.raises(TypeError, match="join takes"):
        trainer_of(model, more={"optimizers": (sparse, dense)})
    one, other = trainer_of(model, more={"optimizers": (dense, sparse)}), trainer_of()
    for trainer in (one, other):
        trainer.train()
    assert_same_weights(one.model, other.model)


def test_a_seed_is_of_all_three():
    import random

    import numpy as np

    def drawn():
        trainer_of(seed=3)
        return torch.rand(1).item(), float(np.random.rand()), random.random()

    assert drawn() == drawn()
