"""The Trainer: a hand-written loop's results, exact accumulation, hooks' order, evaluation, where it ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recis_core.backends.errors import RecisError
from recis_core.framework import Trainer, TrainingArguments, evaluate_metrics, train, train_and_evaluate
from recis_core.hooks import Hook
from recis_core.metrics import AUROC
from recis_core.optim import clip_grad_norm_
from tests.framework.trainers import (
    Clicks,
    Heard,
    Losing,
    Memory,
    assert_same_weights,
    batch,
    batches,
    cut,
    optimizers_of,
    trainer_of,
    weights_of,
)


def by_hand(data, *, clip=None):
    model = Clicks()
    optimizer = optimizers_of(model)
    losses = []
    for each in data:
        loss = F.binary_cross_entropy_with_logits(model(each), each["label"])
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            clip_grad_norm_(optimizer, clip)
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize("clip", [None, 0.05])
def test_the_bits_of_a_loop_by_hand(clip):
    want, losses = by_hand(batches(6), clip=clip)
    heard = Heard()
    trainer = trainer_of(more={"hooks": [heard]}, max_grad_norm=clip)
    trainer.train()
    assert_same_weights(trainer.model, want)
    assert [result.loss for result in heard.results] == losses
    assert (trainer.step, trainer.rows, trainer.epoch) == (6, 48, 1)


def test_a_comparison_of_weights_fails():
    one, other = Clicks(), Clicks()
    for model in (one, other):
        model(batch(0))
    with torch.no_grad():
        other.tower[0].bias[0] += 1e-7
    with pytest.raises(AssertionError, match="bias"):
        assert_same_weights(one, other)
    with torch.no_grad():
        other.tower[0].bias[0] += 1e-3
    with pytest.raises(AssertionError, match="not close"):
        assert_same_weights(one, other, close=True)


@pytest.mark.parametrize("ends", [(8, 16, 24), (3, 20, 24), (24,)], ids=str)
def test_accumulated_batches_are_one(ends):
    """Of one size or of several: the mean over rows, not over batches."""
    wholes = batches(3, rows=24)
    parts = [part for whole in wholes for part in cut(whole, *ends)]
    one, heard = trainer_of(data=wholes, kind="sgd"), Heard()
    one.train()
    some = trainer_of(
        data=parts, kind="sgd", more={"hooks": [heard]}, gradient_accumulation_steps=len(ends), max_grad_norm=1e6
    )
    some.train()
    assert_same_weights(some.model, one.model, close=True)
    assert [result.rows for result in heard.results] == [24] * 3
    assert heard.places.count("before_step") == len(parts)


def test_the_last_group_of_an_epoch_is_stepped():
    data = batches(5)
    trainer = trainer_of(data=data, kind="sgd", gradient_accumulation_steps=2, train_epoch=2)
    trainer.train()
    assert (trainer.step, trainer.rows, trainer.epoch) == (6, 80, 2)
    by_pairs = [*zip(data[0:4:2], data[1:4:2], strict=True)]
    joined = [{n: torch.cat([a[n], b[n]]) for n in a} for a, b in by_pairs] + [data[4]]
    want = trainer_of(data=joined, kind="sgd", train_epoch=2)
    want.train()
    assert_same_weights(trainer.model, want.model, close=True)


def test_losses_by_name_and_their_weights():
    data, heard = batches(3), Heard()
    trainer = trainer_of(
        Losing(), data, loss=None, more={"hooks": [heard]}, loss_weights={"size": 0.25}, gradient_accumulation_steps=3
    )
    trainer.train()
    (result,) = heard.results
    model = Losing()
    parts = [model(each)[0] for each in data]
    for name in ("click", "size"):
        assert result.losses[name] == pytest.approx(np.mean([part[name].item() for part in parts]), rel=1e-5)
    assert result.loss == pytest.approx(result.losses["click"] + 0.25 * result.losses["size"], rel=1e-5)


@pytest.mark.parametrize(
    ("model", "how", "args", "said"),
    [
        (Clicks, {"loss": None}, {}, r"what the model returns must be a 0-d tensor.*float32 \[8\].*give the Trainer loss="),
        (Losing, {"loss": None}, {"loss_weights": {"clicks": 1.0}}, r"losses of the model, \['click', 'size'\].*\['clicks'\]"),
        (Clicks, {}, {"loss_weights": {"click": 1.0}}, "there is one loss without a name"),
        (Clicks, {}, {"label": "clicked"}, r"label='clicked' must be a key.*has \['user', 'item', 'label'\]"),
        (Clicks, {"loss": lambda a, b: a[:, None]}, {}, r"what loss\(\) gives must be .*\[8, 1\]"),
        (Clicks, {"loss": lambda a, b: {}}, {}, "must hold one at least"),
    ],
)  # fmt: skip
def test_what_is_no_loss(model, how, args, said):
    trainer = trainer_of(model(), **how, **args)
    with pytest.raises((TypeError, ValueError, KeyError), match=said):
        trainer.train()
    assert trainer.step == 0


def test_a_loss_of_each_row_is_its_mean():
    one, other = trainer_of(), trainer_of(loss=lambda a, b: F.binary_cross_entropy_with_logits(a, b, reduction="none"))
    one.train()
    other.train()
    assert_same_weights(other.model, one.model, close=True)


def test_the_order_of_hooks():
    first, second = Heard("1 "), Heard("2 ")
    first.places = second.places
    trainer = trainer_of(
        data=batches(2), evaluation=batches(1), more={"hooks": [first], "checkpoints": Memory(2)}, eval_steps=2
    )
    trainer.add_hook(second)
    trainer.train()
    assert first.places == [
        "1 before_train", "2 before_train", "1 before_epoch", "2 before_epoch",
        "1 before_step", "2 before_step", "2 after_backward", "1 after_backward", "2 after_step 1", "1 after_step 1",
        "1 before_step", "2 before_step", "2 after_backward", "1 after_backward", "2 after_step 2", "1 after_step 2",
        "1 before_evaluate", "2 before_evaluate", "2 after_evaluate", "1 after_evaluate",
        "1 before_save", "2 before_save", "2 after_save", "1 after_save",
        "2 after_epoch", "1 after_epoch", "2 after_train", "1 after_train", "2 end", "1 end",
    ]  # fmt: skip


def test_an_error_is_told_to_hooks_which_all_end():
    class Failing(Hook):
        def after_step(self, run, result):
            raise RuntimeError("no")

        def end(self, run):
            raise OSError("cannot close")

    heard = Heard()
    trainer = trainer_of(more={"hooks": [heard, Failing()], "checkpoints": Memory()})
    with pytest.raises(OSError, match="cannot close") as raised:
        trainer.train()
    assert str(raised.value.__context__) == "no"
    assert heard.places[-2:] == ["on_error RuntimeError", "end"]


def test_a_hook_stops_training_after_its_step():
    class Stopping(Hook):
        def after_step(self, run, result):
            if run.step == 3:
                run.stop("enough")

    manager = Memory()
    trainer = trainer_of(more={"hooks": [Stopping()], "checkpoints": manager})
    trainer.train()
    assert (trainer.step, trainer.epoch, trainer.stopped_by, list(manager.saved)) == (3, 0, "enough", [3])
    trainer.train()
    assert (trainer.step, trainer.epoch, trainer.stopped_by) == (6, 1, None)


def test_train_in_two_calls_is_train_in_one():
    whole = trainer_of(train_epoch=2)
    whole.train()
    parts = trainer_of(train_epoch=2)
    for steps in (4, 7, None):
        parts.train(steps)
    assert (parts.step, parts.epoch) == (12, 2)
    assert_same_weights(parts.model, whole.model)


def test_evaluation_is_of_rows_and_leaves_the_model_as_it_was():
    data = [batch(7, rows=3), batch(8, rows=21)]
    trainer = trainer_of(evaluation=data, more={"metrics": {"auc": AUROC()}})
    trainer.model.tower[2].eval()
    before = weights_of(trainer.model)
    found = trainer.evaluate()
    assert {name: torch.equal(w, before[name]) for name, w in weights_of(trainer.model).items()}.keys() == before.keys()
    assert [m.training for m in trainer.model.tower] == [True, True, False, True]
    model = trainer.model.eval()
    whole = {n: torch.cat([part[n] for part in data]) for n in data[0]}
    with torch.no_grad():
        logits = model(whole)
    metric = AUROC()
    metric.update(logits.sigmoid(), whole["label"])
    assert found["auc"] == pytest.approx(metric.compute())
    assert found["loss"] == pytest.approx(F.binary_cross_entropy_with_logits(logits, whole["label"]).item(), rel=1e-6)
    assert trainer.last_metrics == found
    assert evaluate_metrics(
        model, data, metrics={"auc": AUROC()}, loss=F.binary_cross_entropy_with_logits
    ) == pytest.approx(found)


def test_metrics_need_predictions():
    class Alone(Clicks):
        def forward(self, batch):
            return super().forward(batch).square().mean()

    trainer = trainer_of(Alone(), evaluation=batches(1), loss=None, more={"metrics": {"auc": AUROC()}})
    with pytest.raises(ValueError, match="metrics need predictions, and this model returns a loss alone"):
        trainer.evaluate()
    pair = trainer_of(Losing(), evaluation=batches(1), loss=None, more={"metrics": {"auc": AUROC()}})
    assert set(pair.evaluate()) == {"loss", "click", "size", "auc"}


def test_metrics_of_inputs_of_their_own():
    class Count:
        def reset(self):
            self.seen = 0

        def update(self, users):
            self.seen += len(set(users.tolist()))

        def compute(self):
            return {"users": self.seen, "half": torch.tensor(self.seen / 2)}

    metrics = {"n": (Count(), lambda predictions, batch: (batch["user"],))}
    trainer = trainer_of(evaluation=batches(2), more={"metrics": metrics})
    users = sum(len(set(each["user"].tolist())) for each in batches(2))
    found = trainer.evaluate()
    assert (found["n.users"], found["n.half"]) == (users, users / 2)


def test_train_metrics_come_every_log_steps_of_predictions_before_updates():
    heard = Heard()
    trainer = trainer_of(more={"hooks": [heard], "train_metrics": {"auc": AUROC()}}, log_steps=3)
    trainer.train()
    assert [sorted(result.metrics) for result in heard.results] == [[], [], ["auc"]] * 2


def test_evaluation_every_so_many_steps_and_after_epochs():
    heard = Heard()
    trainer = trainer_of(evaluation=batches(1), more={"hooks": [heard]}, eval_steps=4)
    assert trainer.train_and_evaluate() == heard.metrics[-1]
    assert [p for p in heard.places if p.startswith("after_") and "backward" not in p] == [
        *(f"after_step {k}" for k in (1, 2, 3, 4)), "after_evaluate", "after_step 5", "after_step 6",
        "after_evaluate", "after_epoch", "after_train",
    ]  # fmt: skip
    short = trainer_of(evaluation=batches(1), train_steps=2)
    assert short.train_and_evaluate()["loss"] > 0


def test_saves_have_the_metrics_of_their_step_alone():
    manager = Memory(every=2)
    trainer = trainer_of(data=batches(7), evaluation=batches(1), more={"checkpoints": manager}, eval_steps=4)
    trainer.train()
    assert {step: metrics is not None for step, metrics in manager.metrics.items()} == {
        2: False, 4: True, 6: False, 7: False
    }  # fmt: skip
    assert manager.waited == 1


def test_a_step_by_hand():
    trainer = trainer_of(kind="sgd")
    result = trainer.train_step(cut(batch(0, rows=24), 5, 24))
    want = trainer_of(kind="sgd")
    want.train_step([batch(0, rows=24)])
    assert (result.step, result.rows) == (1, 24)
    assert_same_weights(trainer.model, want.model, close=True)
    with pytest.raises(ValueError, match="a step needs a row"):
        trainer.train_step([])


def test_functions_of_one_call():
    model = Clicks()
    how = {"optimizers": optimizers_of(model), "loss": F.binary_cross_entropy_with_logits}
    trainer = train(model, TrainingArguments(), batches(6), **how)
    assert_same_weights(trainer.model, by_hand(batches(6))[0])
    other = Clicks()
    how["optimizers"] = optimizers_of(other)
    assert train_and_evaluate(other, TrainingArguments(), batches(6), batches(1), **how) == trainer.evaluate(batches(1))


def test_phases_are_wall_time():
    trainer = trainer_of(evaluation=batches(1), more={"hooks": [Heard()], "checkpoints": Memory()})
    trainer.train_and_evaluate()
    assert all(trainer.phases[name] > 0 for name in trainer.phases)


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        ({"train_steps": 0}, ValueError, "train_steps must be at least 1; got 0"),
        ({"train_epoch": 1.5}, TypeError, "train_epoch must be an int; got 1.5"),
        ({"log_steps": True}, TypeError, "log_steps must be an int; got True"),
        ({"mixed_precision": "int8"}, ValueError, "mixed_precision must be one of None, 'bf16', 'fp16'; got 'int8'"),
        ({"parallel": "tp"}, ValueError, "parallel must be one of 'ddp', 'fsdp2', 'none'"),
        ({"max_grad_norm": float("nan")}, ValueError, "max_grad_norm must be finite and above 0; got nan"),
        ({"max_grad_norm": "1"}, TypeError, "max_grad_norm must be a number"),
        ({"loss_weights": {"a": float("inf")}}, ValueError, r"loss_weights\['a'\] must be a finite number"),
        ({"loss_weights": [1]}, TypeError, "loss_weights must be a dict"),
        ({"seed": -1}, ValueError, r"seed must be in \[0, 2\*\*32\)"),
        ({"compile": 1}, TypeError, "compile must be True, False or the name"),
        ({"label": 3}, TypeError, "label must be a key of batches or None"),
    ],
)
def test_arguments_that_are_none(args, error, said):
    with pytest.raises(error, match=said):
        TrainingArguments(**args)


def test_what_a_trainer_is_not_given():
    model, args = Clicks(), TrainingArguments()
    pair = (torch.optim.SGD(model.parameters(), lr=0.1), optimizers_of(model).sparse)
    for wrong, said in (
        ((Clicks, args, [], None), "model must be a torch.nn.Module"),
        ((model, {}, [], None), "args must be TrainingArguments; got dict"),
        ((model, args, 3, None), "train_dataset must be an iterable of batches; got int"),
    ):
        with pytest.raises(TypeError, match=said):
            Trainer(*wrong, optimizers=pair)
    with pytest.raises(TypeError, match="optimizers must be one of recis_core.optim.join, or a pair"):
        Trainer(model, args, [], optimizers=pair[0])
    with pytest.raises(TypeError, match="must be a recis_core.hooks.Hook; got object"):
        Trainer(model, args, [], optimizers=pair, hooks=[object()])
    with pytest.raises(TypeError, match="metric 'auc' must have update, compute and reset; float lacks"):
        Trainer(model, args, [], optimizers=pair, metrics={"auc": 0.5})
    with pytest.raises(ValueError, match="eval_steps needs data to evaluate on"):
        Trainer(model, TrainingArguments(eval_steps=1), [], optimizers=pair)

    class NoState:
        update = compute = reset = print

    with pytest.raises(TypeError, match=r"train_metrics \['n'\] need state_dict and load_state_dict"):
        Trainer(model, args, [], optimizers=pair, train_metrics={"n": NoState()}, checkpoints=Memory())
    trainer = Trainer(model, args, optimizers=pair)
    for verb, said in (
        ("train", "nothing to train on"),
        ("evaluate", "nothing to evaluate on"),
        ("save", "no checkpoints"),
    ):
        with pytest.raises(RecisError, match=said):
            getattr(trainer, verb)()
