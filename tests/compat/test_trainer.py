"""The trainer: steps, accumulation, epochs, hooks, checkpoints, model banks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from recis_core.compat.recis.framework import CheckpointManager, Trainer
from recis_core.compat.recis.framework.checkpoint_manager import Saver
from recis_core.compat.recis.framework.metrics import add_metric, get_global_metrics
from recis_core.compat.recis.framework.trainer import TrainingArguments
from recis_core.compat.recis.hooks import Hook
from recis_core.compat.recis.io.wrap_end_dataset import WrapEndDataset
from recis_core.compat.recis.nn import EmbeddingEngine, EmbeddingOption
from recis_core.compat.recis.nn.initializers import ConstantInitializer
from recis_core.compat.recis.nn.modules.hashtable import filter_out_sparse_param
from recis_core.compat.recis.optim import SparseAdamW


class Model(nn.Module):
    def __init__(self, table: str) -> None:
        super().__init__()
        option = EmbeddingOption(2, shared_name=table, initializer=ConstantInitializer(0.1))
        self.engine, self.tower = EmbeddingEngine({"id": option}), nn.Linear(2, 1)

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        out = self.tower(self.engine(batch)["id"])
        add_metric("mean", out.mean().item())
        return ((out - 1) ** 2).mean()


class Batches(WrapEndDataset):
    """Ids of so many batches, with a position."""

    _worker_num = 1

    def __init__(self, count: int) -> None:
        self.count, self.begin, self.at = count, 0, 0
        super().__init__(self)

    def __iter__(self):
        self.at, self.begin = self.begin, 0
        while self.at < self.count:
            self.at += 1
            yield False, {"id": torch.tensor([[self.at], [self.at + 1]])}
        while True:
            yield True, None

    def dump_io_state(self) -> dict[int, int]:
        return {0: self.at}

    def load_io_state(self, state: dict[int, int]) -> None:
        self.begin = state[0]


class Seen(Hook):
    def __init__(self) -> None:
        self.steps, self.metrics, self.ends = [], [], 0

    def after_step(self, metrics, global_step) -> None:
        self.steps.append(int(global_step))
        self.metrics.append(metrics)

    def end(self) -> None:
        self.ends += 1


def trainer(table: str, folder: Path, batches: int = 5, **arguments: Any) -> tuple[Trainer, Seen]:
    torch.manual_seed(0)
    model, seen = Model(table), Seen()
    args = TrainingArguments(output_dir=str(folder), **{"save_steps": 2, "max_to_keep": 2, **arguments})
    made = Trainer(
        model, args, Batches(batches), Batches(3), [seen], (torch.optim.SGD(model.parameters(), 0.1), None),
        SparseAdamW(filter_out_sparse_param(model), lr=0.1),
    )  # fmt: skip
    return made, seen


def test_train_makes_the_steps_of_the_data_and_saves(fresh, tmp_path: Path) -> None:
    made, seen = trainer(fresh("t"), tmp_path, train_epoch=2)
    made.train()
    assert seen.steps == list(range(10))  # a hook sees the steps before this one
    assert [m["epoch"] for m in seen.metrics] == [0] * 5 + [1] * 5
    assert {"epoch", "loss", "mean"} <= set(seen.metrics[0])
    assert seen.metrics[-1]["loss"] < seen.metrics[0]["loss"]
    assert seen.ends == 1
    assert (tmp_path / "checkpoint").read_text() == "ckpt_8\nckpt_10\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint", "ckpt_10", "ckpt_8"]
    files = {file.name for file in (tmp_path / "ckpt_10").iterdir()}
    assert {"index", "tensorkey.json", "model.pt", "extra.pt", "io_state_0.pt", "io_state_count"} <= files


def test_max_steps_are_one_more_than_are_made(fresh, tmp_path: Path) -> None:
    made, seen = trainer(fresh("t"), tmp_path)
    made.train(train_steps=4)
    assert seen.steps == [0, 1, 2]


def test_a_second_run_resumes_tables_dense_side_optimizers_and_data(fresh, tmp_path: Path) -> None:
    whole, seen = trainer(fresh("t"), tmp_path / "whole", 6)
    whole.train()
    first, _ = trainer(one := fresh("t"), tmp_path / "cut", 6)
    first.train(train_steps=4)
    second, again = trainer(two := fresh("t"), tmp_path / "cut", 6)
    renamed(first.checkpoint_manager, tmp_path / "cut", one, two)
    second.train()
    assert again.steps == [3, 4, 5]
    assert int(second._global_step) == 6
    losses, after = ([m["loss"].item() for m in hook.metrics] for hook in (seen, again))
    assert after == losses[3:]
    assert set(second.sparse_optimizer._tables.t.values()) == {6}


def renamed(manager: CheckpointManager, folder: Path, old: str, new: str) -> None:
    """Give the table of a checkpoint another name, for a process has one table of a name."""
    from recis_core.serialize.imports import RecisCheckpoint, write_recis_checkpoint

    newest = folder / (folder / "checkpoint").read_text().split()[-1]
    read = RecisCheckpoint(newest)
    slots = {name.split("@")[1]: read.read_tensor(name) for name in read.tensor_names() if "@" in name}
    plain = {name: read.read_tensor(name) for name in read.tensor_names() if "@" not in name}
    kept = {
        file.name: file.read_bytes() for file in newest.iterdir() if file.suffix == ".pt" or file.name.startswith("io")
    }
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    write_recis_checkpoint(newest, {new: slots}, plain)
    for name, content in kept.items():
        (newest / name).write_bytes(content)


def test_accumulation_updates_both_sides_each_nth_step(fresh, tmp_path: Path) -> None:
    made, seen = trainer(fresh("t"), tmp_path, 4, gradient_accumulation_steps=2)
    weights: list[torch.Tensor] = []
    seen.after_step = lambda metrics, step: weights.append(made.model.tower.weight.detach().clone())
    before = made.model.tower.weight.detach().clone()
    made.train()
    assert torch.equal(weights[0], before)
    assert not torch.equal(weights[1], before)
    assert torch.equal(weights[2], weights[1])
    assert set(made.sparse_optimizer._tables.t.values()) == {2}


def test_evaluation_trains_nothing_and_windows_follow_each_other(fresh, tmp_path: Path) -> None:
    made, seen = trainer(fresh("t"), tmp_path)
    made.train_and_evaluate(epochs=1, eval_steps=2)
    assert len(seen.steps) == 5 + 2
    assert seen.ends == 2
    assert set(seen.metrics[-1]) == set(get_global_metrics())
    ids = len(next(iter(filter_out_sparse_param(made.model).values())).ids())
    made.evaluate()
    assert len(next(iter(filter_out_sparse_param(made.model).values())).ids()) == ids
    with pytest.raises(TypeError, match="has no windows"):
        made.get_new_window_iter(made.train_dataset)


class Windows(Batches):
    """Three windows, of which the second is skipped."""

    _window_paths = ("a", "b", "c")

    def reset(self) -> None:
        self._read_offset = [-1]

    def next_window(self) -> bool:
        self._read_offset[0] += 1
        if self._read_offset[0] == len(self._window_paths):
            raise StopIteration
        return self._read_offset[0] == 1

    def state_dict(self) -> dict[str, Any]:
        return {"offset": self._read_offset[0]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._read_offset = [state["offset"]]


def test_windows_are_read_one_after_another(fresh, tmp_path: Path) -> None:
    made, seen = trainer(fresh("t"), tmp_path)
    made.train_dataset = Windows(2)
    made.train()
    assert len(seen.steps) == 4


def test_a_model_bank_loads_parts(fresh, tmp_path: Path) -> None:
    first, _ = trainer(fresh("t"), tmp_path / "a")
    first.train()
    path = str(tmp_path / "a" / "ckpt_5")
    bank = [{"path": path, "load": ["dense"]}, {"path": path, "load": ["*"], "exclude": ["*"]}]
    made, _ = trainer(fresh("t"), tmp_path / "b", model_bank=bank)
    made.restore()
    assert torch.equal(made.model.tower.weight, first.model.tower.weight)
    assert int(made._global_step) == 0
    wrong, _ = trainer(fresh("t"), tmp_path / "c", model_bank=[{"path": path, "load": ["dens"]}])
    with pytest.raises(ValueError, match="load and exclude are lists of"):
        wrong.restore()


def test_names_are_registered_once_and_positions_are_of_as_many_workers(fresh, tmp_path: Path) -> None:
    made, _ = trainer(fresh("t"), tmp_path)
    made.train()
    with pytest.raises(ValueError, match="'global_step' is registered already"):
        made.checkpoint_manager.register_for_checkpointing("global_step", 1)
    saver, data = Saver(Model(fresh("t")), output_dir=tmp_path), Batches(1)
    saver.register_io_state("train_io", data)
    data._worker_num = 2
    with pytest.raises(ValueError, match="positions of 1 workers; data set 'train_io' is read by 2"):
        saver.load(load_conf={"exclude": ["sparse"]})
    with pytest.raises(ValueError, match="mixed_precision must be no or bf16"):
        Trainer(nn.Linear(1, 1), TrainingArguments(output_dir=str(tmp_path)), mixed_precision="fp16")
