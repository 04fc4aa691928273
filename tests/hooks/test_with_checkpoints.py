"""Hooks beside a CheckpointManager: their states come back with a run, and CheckpointHook drives it as a Trainer does."""

import json

import pytest
import torch

from recis_core.hooks import CheckpointHook, EarlyStopHook, EvaluateHook, JsonLinesHook, LoggerHook
from recis_core.serialize import CheckpointManager, EverySteps, KeepBest
from tests.framework.trainers import Clicks, batches, optimizers_of, trainer_of


def hooks_of(path):
    return [JsonLinesHook(path, 3), LoggerHook(4), EarlyStopHook("loss", mode="min", patience=9), EvaluateHook(4)]


def run_of(folder, path):
    manager = CheckpointManager(folder, save=EverySteps(5), asynchronous=False)
    return trainer_of(data=batches(12), evaluation=batches(2), more={"hooks": hooks_of(path), "checkpoints": manager})


def lines_of(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.get("train", {}).pop("rows_per_s", None)
    return lines


@pytest.mark.parametrize("stop", [5, 7, 8, 10])
def test_a_resumed_run_writes_the_same_lines(tmp_path, stop):
    whole = run_of(tmp_path / "whole", tmp_path / "whole.jsonl")
    whole.train()
    path = tmp_path / "log.jsonl"
    run_of(tmp_path / "states", path).train(stop)
    resumed = run_of(tmp_path / "states", path)
    assert resumed.restore().step == stop
    resumed.train()
    assert lines_of(path) == lines_of(tmp_path / "whole.jsonl")
    for mine, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_hook_drives_a_manager(tmp_path):
    model = Clicks()
    both = optimizers_of(model)
    manager = CheckpointManager(tmp_path, save=EverySteps(2), keep=KeepBest("loss", 1, mode="min"))
    manager.register(model=model, optimizer=both)
    hooks = [CheckpointHook(manager), EvaluateHook(4)]
    trainer = trainer_of(model, batches(9), batches(2), more={"hooks": hooks, "optimizers": both})
    trainer.train()
    assert manager.latest() == 9
    assert set(manager.steps()) <= {4, 8, 9}
    again = Clicks()
    other = CheckpointManager(tmp_path)
    other.register(model=again, optimizer=optimizers_of(again))
    assert other.restore().step == 9
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
