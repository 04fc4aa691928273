"""The Trainer with the CheckpointManager: from any step the same bits; on another number of ranks the same within rounding."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.optim.lr_scheduler import StepLR

from recis_core.backends.errors import RecisError
from recis_core.hooks import EarlyStopHook, JsonLinesHook
from recis_core.io import ParquetDataset
from recis_core.metrics import AUROC
from recis_core.serialize import CheckpointManager, EverySteps, KeepLast
from tests.exchange.ranks import run_ranks
from tests.framework.test_resume import Drawing
from tests.framework.trainers import Clicks, Memory, assert_same_weights, batches, optimizers_of, trainer_of, weights_of
from tests.training.on_ranks import assert_same_run, result

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
ROWS, STEPS = 160, 8


@pytest.fixture(scope="module")
def log(tmp_path_factory: Any) -> Path:
    """160 rows in two files."""
    path, draw = tmp_path_factory.mktemp("log"), np.random.default_rng(5)
    for part in range(2):
        columns = {name: draw.integers(0, 40, ROWS // 2) for name in ("user", "item")}
        labels = draw.integers(0, 2, ROWS // 2).astype(np.float32)
        pq.write_table(pa.table({**columns, "label": labels}), path / f"{part}.parquet")
    return path


def dataset(log: Any, rank: int = 0, world: int = 1) -> ParquetDataset:
    data = ParquetDataset(20 // world, rank, world, shuffle=True)
    data.add_path(str(log))
    for name in ("user", "item", "label"):
        data.fixedlen_feature(name, default_value=[0.0] if name == "label" else [0])
    return data.map(lambda batch: {name: value.reshape(-1) for name, value in batch.items()})


def run_of(log: Any, folder: Path, **args: Any) -> Any:
    """All that has a state."""
    model = Drawing(dropout=0.3)
    optimizer = optimizers_of(model)
    more = {
        "optimizers": optimizer, "schedulers": StepLR(optimizer, 3, 0.5), "metrics": {"auc": AUROC()},
        "train_metrics": {"auc": AUROC()}, "hooks": [JsonLinesHook(folder / "log.jsonl", 3), EarlyStopHook("auc", patience=9)],
    }  # fmt: skip
    return trainer_of(
        model, dataset(log), batches(2), more=more, train_epoch=2, mixed_precision="fp16", eval_steps=3, log_steps=4,
        gradient_accumulation_steps=2, output_dir=str(folder / "checkpoints"), save_steps=1, max_to_keep=50, **args,
    )  # fmt: skip


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Without rates by time."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{**line, "train": {**line.get("train", {}), "rows_per_s": 0}} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(log: Path, tmp_path_factory: Any) -> Any:
    folder = tmp_path_factory.mktemp("undisturbed")
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(7)
    trainer = run_of(log, folder)
    trainer.train()
    return trainer, folder, torch.rand(1)


@pytest.mark.parametrize("step", range(1, STEPS + 1) if FULL else [3, 4, 7])
def test_from_any_step_the_same_bits(undisturbed: Any, log: Path, tmp_path: Path, step: int) -> None:
    """Tables, weights, slots, schedules, scaler, random numbers, rows, metrics and logged lines; step 4 ends an epoch."""
    whole, folder, number = undisturbed
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    torch.manual_seed(99)
    trainer = run_of(log, tmp_path)
    assert trainer.restore(step).step == trainer.step == step
    trainer.train()
    assert_same_weights(trainer.model, whole.model)
    assert torch.equal(torch.rand(1), number)
    assert (trainer.step, trainer.rows, trainer.epoch) == (whole.step, whole.rows, whole.epoch) == (STEPS, 2 * ROWS, 2)
    assert dict(trainer.last_metrics) == dict(whole.last_metrics)
    assert lines_of(tmp_path) == lines_of(folder)


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    args = {"output_dir": str(tmp_path), "save_steps": 2, "max_to_keep": 2, "eval_steps": 2}
    trainer = trainer_of(
        data=batches(12), evaluation=batches(1), more={"metrics": {"auc": AUROC()}}, metric_for_best="auc", **args
    )
    aucs = {}
    stepped = trainer.save

    def saving() -> Any:
        aucs[trainer.step] = trainer.last_metrics["auc"]
        return stepped()

    trainer.save = saving
    trainer.train()
    manager = CheckpointManager(tmp_path)
    best = max(aucs, key=lambda step: (aucs[step], step))
    assert manager.best("auc") == best
    assert manager.steps() == sorted({best, 10, 12})


def test_one_place_for_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="as the CheckpointManager says, or to output_dir|give one of the two"):
        trainer_of(output_dir=str(tmp_path), more={"checkpoints": Memory()})
    with pytest.raises(RecisError, match="TrainingArguments\\(output_dir=…\\), or a CheckpointManager"):
        trainer_of().restore()


def test_a_save_that_fails_in_the_background_ends_training_at_the_next_step(tmp_path: Path, monkeypatch: Any) -> None:
    from recis_core.serialize.checkpoint import manager as module

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "commit_together", full)
    manager = CheckpointManager(tmp_path, save=EverySteps(2))
    trainer = trainer_of(data=batches(500), more={"checkpoints": manager})
    with pytest.raises(OSError, match="No space left on device"):
        trainer.train()
    assert trainer.step < 500


def finished(
    rank: int, world: int, log: str, folder: str, *, restore: int | None = None, **args: Any
) -> dict[str, Any]:
    manager = CheckpointManager(folder, save=EverySteps(1), keep=KeepLast(50))
    more = {"checkpoints": manager, "empty": nothing}
    trainer = trainer_of(Clicks(), dataset(log, rank, world), kind="sgd", more=more, train_epoch=2, **args)
    if restore is not None:
        trainer.restore(restore)
    trainer.train()
    manager.close()
    return result(trainer.model, [0.0], counts=(trainer.step, trainer.rows, trainer.epoch))


def nothing() -> dict[str, Any]:
    return {name: values[:0] for name, values in batches(1)[0].items()}


def on_ranks(rank: int, world: int, log: str, folder: str, steps: list[int]) -> dict[str, Any]:
    """A run; what comes of it from some steps on; and what comes of a run of one rank from its fifth step on."""
    whole = finished(rank, world, log, f"{folder}/whole")
    again = [finished(rank, world, log, f"{folder}/whole", restore=step) for step in steps]
    return {"whole": whole, "again": again, "others": finished(rank, world, log, f"{folder}/alone", restore=5)}


@pytest.fixture(scope="module")
def ranks(log: Path, tmp_path_factory: Any) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ranks")
    finished(0, 1, str(log), str(folder / "alone"), train_steps=5)
    return folder, run_ranks(2, on_ranks, str(log), str(folder), [*range(1, 17)] if FULL else [3])


def test_two_ranks_go_on_with_the_same_bits(ranks: Any) -> None:
    for rank in ranks[1]:
        assert rank["whole"]["counts"] == (16, 2 * ROWS, 2)
        for again in rank["again"]:
            assert again["counts"] == rank["whole"]["counts"]
            assert np.array_equal(again["tower"], rank["whole"]["tower"])
            for name, rows in rank["whole"]["rows"].items():
                assert all(np.array_equal(again["rows"][name][i], row) for i, row in rows.items())


def test_another_number_of_ranks_trains_the_rows_that_are_left(ranks: Any, log: Path) -> None:
    """At the end the counts are the same. Its batches hold other rows, so weights may differ."""
    folder, found = ranks
    assert all(rank["others"]["counts"][1:] == (2 * ROWS, 2) for rank in found)
    shutil.copytree(folder / "whole", folder / "five")
    assert finished(0, 1, str(log), str(folder / "five"), restore=5)["counts"][1:] == (2 * ROWS, 2)


def test_a_checkpoint_of_ranks_is_that_of_one(ranks: Any, log: Path) -> None:
    """Restored on one rank after the last step, and trained no further."""
    folder, found = ranks
    alone = finished(0, 1, str(log), str(folder / "whole"), restore=16, train_steps=16)
    assert_same_run([rank["whole"] for rank in found], alone, rtol=0)


class Note:
    """A thing of the user's with a state."""

    def __init__(self, said: int) -> None:
        self.said = said

    def state_dict(self) -> dict[str, int]:
        return {"said": self.said}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.said = state["said"]


def kept_in(folder: Path, said: int) -> Any:
    manager, note = CheckpointManager(folder, save=None), Note(said)
    return trainer_of(more={"checkpoints": manager, "extra": {"note": note}}), note


def test_a_run_goes_on_from_a_checkpoint_elsewhere_and_saves_in_its_own_place(tmp_path: Path) -> None:
    """With what is the user's; and as a path or a directory, of which nothing changes."""
    want = trainer_of()
    want.train()
    first, _ = kept_in(tmp_path / "a", 7)
    first.train(3)
    for path in (tmp_path / "a", tmp_path / "a" / "step-00000003"):
        other, note = kept_in(tmp_path / "b", 0)
        restored = other.restore(path=path)
        assert (restored.step, other.step, note.said) == (3, 3, 7)
        other.train()
        assert_same_weights(other.model, want.model)
    assert [CheckpointManager(tmp_path / name).steps() for name in "ab"] == [[3], [6]]
    with pytest.raises(ValueError, match="a step of this run's checkpoints, or a path"):
        other.restore(3, path=tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="holds no saved state"):
        other.restore(path=tmp_path / "nowhere")


def test_rows_come_without_their_optimizers_slots(tmp_path: Path) -> None:
    first, _ = kept_in(tmp_path, 0)
    first.train(3)
    fresh, _ = kept_in(tmp_path, 0)
    fresh.restore(load=("tables", "dense"), slots=False)
    got, want = weights_of(fresh.model), weights_of(first.model)
    slots = [name for name in want if name.split()[-1] not in ("ids", "rows") and " " in name]
    assert len(slots) == 4
    for name, value in want.items():
        assert torch.equal(got[name], torch.zeros_like(value) if name in slots else value), name
        assert name not in slots or value.any()


@pytest.mark.parametrize(
    ("extra", "kind"), [({"run": Note(1)}, ValueError), ([Note(1)], TypeError), ({"n": 3}, TypeError)]
)
def test_what_a_checkpoint_cannot_keep_beside_is_refused(tmp_path: Path, extra: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"extra|n must have state_dict"):
        trainer_of(more={"checkpoints": CheckpointManager(tmp_path), "extra": extra})
