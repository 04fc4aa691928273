"""Hooks in a Trainer, all at once and one by one."""

import io
import json
import logging

import pytest
import torch
from rich.console import Console

from recis_core.errors import NonFiniteGradient
from recis_core.hooks import (
    CheckpointHook,
    EarlyStopHook,
    EvaluateHook,
    Hook,
    JsonLinesHook,
    LoggerHook,
    NonFiniteHook,
    ProfilerHook,
    ProgressHook,
    ReportHook,
    TensorBoardHook,
)
from tests.framework.trainers import Clicks, batches, trainer_of


def every_hook(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    saved = []
    return {
        "checkpoint": CheckpointHook(lambda run: saved.append(run.step), every_steps=4),
        "early": EarlyStopHook("loss", mode="min", patience=50),
        "evaluate": EvaluateHook(4),
        "json": JsonLinesHook(tmp_path / "log.jsonl", 2),
        "logger": LoggerHook(2),
        "non_finite": NonFiniteHook(),
        "profiler": ProfilerHook(tmp_path / "traces", [3]),
        "progress": ProgressHook(2, console=console),
        "report": ReportHook(console=Console(file=io.StringIO())),
        "board": TensorBoardHook(tmp_path / "board", 2),
    }, saved


def test_all_at_once_change_no_bit(tmp_path):
    hooks, saved = every_hook(tmp_path)
    plain, trainer = (
        trainer_of(data=batches(8)),
        trainer_of(data=batches(8), evaluation=batches(2), more={"hooks": hooks.values()}),
    )
    plain.train()
    trainer.train()
    assert all(
        torch.equal(a, b) for a, b in zip(plain.model.tower.parameters(), trainer.model.tower.parameters(), strict=True)
    )
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], "train" in line) for line in lines] == [
        (2, True), (4, True), (4, False), (6, True), (8, True), (8, False),
    ]  # fmt: skip
    assert set(lines[2]["evaluate"]) == {"loss"}
    phases = hooks["report"].report.phases
    assert list(phases) == [
        "reading", "features", "lookup", "dense forward", "backward", "exchange", "update", "hooks", "evaluating", "saving",
        "other",
    ]  # fmt: skip
    assert phases["evaluating"] > 0
    assert saved == [4, 8]
    assert hooks["early"].best_step is not None
    assert [path.name for path in hooks["profiler"].files] == ["torch-steps-3-3.json.gz"]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in trainer.model.modules())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_non_finite_gradients(accumulate):
    data = batches(4)
    data[3]["label"][5] = float("nan")
    trainer = trainer_of(data=data, more={"hooks": [NonFiniteHook()]}, gradient_accumulation_steps=accumulate)
    step = 4 // accumulate
    with pytest.raises(NonFiniteGradient, match=rf"of step {step} is not finite: table user \(feature user\): id"):
        trainer.train()
    assert trainer.step == step - 1
    assert all(p.isfinite().all() for p in trainer.model.tower.parameters())


def test_beside_a_scaler_steps_are_skipped_and_told(caplog):
    data = batches(3)
    data[1]["label"][5] = float("nan")
    trainer = trainer_of(data=data, more={"hooks": [NonFiniteHook(raises=False)]}, mixed_precision="fp16")
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.step == 3
    assert [record.getMessage()[:35] for record in caplog.records] == ["the gradient of step 2 is not finite"[:35]]
    assert all(p.isfinite().all() for p in trainer.model.tower.parameters())


def test_clipping_after_the_hook():
    plain, trainer = trainer_of(max_grad_norm=0.1), trainer_of(max_grad_norm=0.1, more={"hooks": [NonFiniteHook()]})
    plain.train()
    trainer.train()
    assert all(
        torch.equal(a, b) for a, b in zip(plain.model.tower.parameters(), trainer.model.tower.parameters(), strict=True)
    )


def test_a_loop_of_ones_own(tmp_path):
    """train_step and evaluate alone: hooks begin with the first of them, and end when the user says so."""
    path, nan = tmp_path / "log.jsonl", NonFiniteHook()
    trainer = trainer_of(evaluation=batches(2), more={"hooks": [JsonLinesHook(path, 2), nan]})
    for batch in batches(4):
        trainer.train_step([batch])
    trainer.evaluate()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [2, 4, 4]
    bad = batches(1)[0]
    bad["label"][0] = float("nan")
    with pytest.raises(NonFiniteGradient, match="of step 5 is not finite"):
        trainer.train_step([bad])
    for hook in trainer_hooks(trainer):
        hook.end(trainer)
    assert not trainer.model.engine._forward_pre_hooks


def trainer_hooks(trainer):
    return list(trainer._pieces.hooks.hooks)


def test_a_hook_that_fails_ends_the_run_and_the_others_close(tmp_path):
    class Fails(Hook):
        def after_step(self, run, result):
            if run.step == 3:
                raise RuntimeError("no luck")

    ends = []

    class Watches(Hook):
        def on_error(self, run, error):
            ends.append(f"{type(error).__name__} at step {run.step}")

        def end(self, run):
            ends.append("end")

    log = JsonLinesHook(tmp_path / "log.jsonl", 1)
    with pytest.raises(RuntimeError, match="no luck"):
        trainer_of(more={"hooks": [Watches(), log, Fails()]}).train()
    assert ends == ["RuntimeError at step 3", "end"]
    assert log._file is None
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2  # Fails was called before the log


def test_early_stop():
    hook = EarlyStopHook("loss", mode="min", patience=1, min_delta=1e9)
    trainer = trainer_of(data=batches(20), evaluation=batches(1), more={"hooks": [hook, EvaluateHook(2)]})
    trainer.train()
    assert trainer.step == 4
    assert trainer.stopped_by.startswith("loss has not improved by 1e+09 in 1 evaluations; its best was ")


@pytest.mark.full
def test_flops_of_a_compiled_model_are_those_of_the_plain_one():
    counts = []
    for compiled in (False, "aot_eager"):
        hook = ReportHook(show=False)
        trainer_of(Clicks(), data=batches(4), more={"hooks": [hook]}, compile=compiled).train()
        counts.append((hook.report.flops_per_step, hook.report.phases["lookup"] > 0))
    assert counts[0] == counts[1]
