"""Arguments from dataclasses, loggers, moving of batches."""

from __future__ import annotations

from collections import defaultdict, namedtuple
from dataclasses import dataclass, field

import pytest
import torch

from recis_core.compat.recis.framework.training_arguments import TrainingArguments
from recis_core.compat.recis.hooks import LoggerHook, ProfilerHook
from recis_core.compat.recis.utils.data_utils import copy_data_to_device
from recis_core.compat.recis.utils.logger import Logger
from recis_core.compat.recis.utils.parser import ArgumentParser


@dataclass
class Data:
    paths: str
    drop: bool
    sizes: list[int] = field(default_factory=lambda: [1])
    rate: float = 0.5


def test_fields_become_options() -> None:
    parser = ArgumentParser()
    parser.add_arguments(Data)
    parser.add_arguments(TrainingArguments, dest="train_config")
    bank = '--model_bank=[{"path": "p"}]'
    given = ["--paths=a,b", "--drop=true", "--sizes", "3", "4", "--train_steps", "7", "--save_steps=none", bank]
    args = parser.parse_args(given)
    assert args.Data == Data("a,b", True, [3, 4])
    assert (args.train_config.train_steps, args.train_config.save_steps) == (7, None)
    assert args.train_config.model_bank == [{"path": "p"}]
    assert parser.parse_args(["--paths=a", "--drop", "--rate=1e-3"]).Data == Data("a", True, [1], 1e-3)
    with pytest.raises(ValueError, match="dest 'Data' is taken"):
        parser.add_arguments(Data)
    with pytest.raises(TypeError, match="takes a dataclass"):
        parser.add_arguments(int)


@pytest.mark.parametrize(
    ("given", "message"), [([], "required: --paths, --drop"), (["--paths=a", "--drop=maybe"], "--drop")]
)
def test_wrong_options_end_with_a_message(given: list[str], message: str, capsys) -> None:
    parser = ArgumentParser()
    parser.add_arguments(Data)
    with pytest.raises(SystemExit):
        parser.parse_args(given)
    assert message in capsys.readouterr().err


def test_a_logger_writes_info_to_stdout_and_the_rest_to_stderr_once(capsys, monkeypatch) -> None:
    Logger("compat.test")
    logger = Logger("compat.test")
    logger.info("one %d", 1)
    logger.error("two")
    monkeypatch.setenv("RANK", "1")
    logger.info_rank0("not here")
    out, err = capsys.readouterr()
    assert (out.count("one 1"), err.count("two"), "two" in out, "not here" in out) == (1, 1, False, False)


def test_logger_hook_writes_each_nth_step(capsys) -> None:
    hook = LoggerHook(2)
    for step in range(3):
        hook.after_step({"loss": step}, step)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("<gstep=")[1][0] for line in lines] == ["0", "2"]
    assert "<lstep=2>" in lines[1]
    assert "<loss=2>" in lines[1]


def test_profiler_hook_writes_a_trace_of_the_active_step(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("APP_ID", "mine")
    hook = ProfilerHook(wait=1, warmup=1, active=1, repeat=1, output_dir=str(tmp_path / "traces"))
    for _ in range(4):
        torch.ones(2).sum()
        hook.after_step({}, 0)
    hook.end()
    hook.end()
    assert [file.name.split("-timeline-")[0] for file in (tmp_path / "traces").iterdir()] == ["mine"]


def test_batches_are_moved_whole() -> None:
    pair = namedtuple("pair", "a b")
    batch = {"x": [torch.ones(1)], "y": pair(torch.ones(1), "text"), "z": defaultdict(list, k=[torch.ones(1)])}
    moved = copy_data_to_device(batch, "meta")
    assert {moved["x"][0].device.type, moved["y"].a.device.type, moved["z"]["k"][0].device.type} == {"meta"}
    assert (moved["y"].b, type(moved["z"])) == ("text", defaultdict)
