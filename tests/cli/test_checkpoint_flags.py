"""States of `recis train --save`: written behind training, as deltas, kept by policies; and those from before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from recis_core.cli import main
from recis_core.cli.build import build_model, build_optimizer
from recis_core.cli.flags import by_flag
from recis_core.cli.report import SilentReport
from recis_core.cli.saving import new_run
from recis_core.cli.source import open_source
from recis_core.cli.train import train
from recis_core.cli.train_config import TrainConfig
from recis_core.framework import TrainLoop
from recis_core.serialize import open_checkpoint, save_state

TINY = {"preset": "tiny", "rows": 3000, "batch_size": 250, "dim": 4, "lr": 0.01, "backend": "numba"}  # 11 steps


def run(**flags: Any) -> dict[str, Any]:
    return train(TrainConfig(**{**TINY, **flags}), SilentReport())


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """Of a run that saves nothing."""
    return run(epochs=2)


def kinds(directory: Path) -> dict[int, str]:
    found = [open_checkpoint(path) for path in sorted(directory.glob("step-*"))]
    return {each.step: each.kind for each in found}


def test_behind_training_as_deltas_and_on_from_one(tmp_path: Path, whole: dict[str, Any]) -> None:
    """From a delta, too, the run ends with the tables of one that saved nothing."""
    saved = run(epochs=2, steps=10, save=str(tmp_path), save_every=2, save_async=True, save_deltas=2)
    assert kinds(tmp_path) == {2: "full", 4: "delta", 6: "delta", 8: "full", 10: "delta"}
    assert saved["tables_sha256"] != whole["tables_sha256"]
    resumed = run(epochs=2, resume=str(tmp_path), save=str(tmp_path), save_every=10, save_async=True)
    assert (resumed["tables_sha256"], resumed["auc"]) == (whole["tables_sha256"], whole["auc"])
    assert max(kinds(tmp_path)) == 22


def test_what_stays_is_kept_by_any_of_the_flags(tmp_path: Path, whole: dict[str, Any]) -> None:
    """The best by the test's AUC, which each state holds; the model's bits are those of a run without."""
    final = run(epochs=2, save=str(tmp_path), save_every=2, keep=1, keep_every=8, keep_best="auc:2")
    assert final["tables_sha256"] == whole["tables_sha256"]
    every = tmp_path / "all"
    run(epochs=2, save=str(every), save_every=2, keep_best="auc:99")
    auc = {each.step: each.part("metrics")["auc"] for each in map(open_checkpoint, every.iterdir())}
    assert sorted(auc) == list(range(2, 23, 2))
    assert auc[22] == pytest.approx(final["auc"], abs=1e-12)
    best = sorted(auc, key=lambda step: -auc[step])[:2]
    assert sorted(kinds(tmp_path)) == sorted({22, 8, 16, *best})


def test_states_by_the_clock(tmp_path: Path) -> None:
    """After each step, where the minutes are few."""
    run(steps=3, save=str(tmp_path), save_minutes=1e-9)
    assert sorted(kinds(tmp_path)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--keep-best auc", "--keep-best needs --save DIR."),
        ("--save-async", "--save-async needs --save DIR."),
        ("--save-deltas 3", "--save-deltas needs --save DIR."),
        ("--save d --keep-best acu", "--keep-best must name a metric of the test: auc, logloss; got 'acu'."),
        ("--save d --keep-best auc:x", "--keep-best takes METRIC, METRIC:N or METRIC:N:min, as auc:2; got 'auc:x'."),
        ("--save d --keep-best gauc", "auc, logloss; got 'gauc'. --metrics adds more."),
    ],
)
def test_flags_that_do_not_go_together_are_refused(capsys: Any, flags: str, said: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--preset", "tiny", *flags.split()])
    err = capsys.readouterr().err
    assert (stop.value.code, len(err.splitlines())) == (2, 1)
    assert said in err


def saved_before(directory: Path, config: TrainConfig, steps: int) -> None:
    """What `recis train --save` wrote before checkpoints had rows of tables in files of their own."""
    torch.manual_seed(config.seed)
    source = open_source(config)
    model = build_model(config, source)
    loop = TrainLoop(model, build_optimizer(config, model))
    for _, batch in zip(range(steps), source.train_batches(config.batch_size), strict=False):
        loop.train_step(batch)
    run = new_run(source.features(), config.data.fingerprint())
    save_state(directory, loop.step, {"settings": by_flag(config), "run": run, **loop.state()})


def test_states_from_before_go_on_and_are_begun_from(tmp_path: Path, capsys: Any, whole: dict[str, Any]) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    saved_before(old, TrainConfig(**TINY), 5)
    resumed = run(epochs=2, resume=str(old), save=str(new))
    assert (resumed["tables_sha256"], resumed["auc"]) == (whole["tables_sha256"], whole["auc"])
    assert kinds(new) == {22: "full"}
    ends = [
        run(steps=2, init_from=str(each), fresh_optimizer=fresh)["tables_sha256"]
        for each in (old, copy_as_checkpoint(tmp_path, old))
        for fresh in (False, True)
    ]
    assert ends[:2] == ends[2:]  # the same from either kind of state
    assert ends[0] != ends[1]
    log = tmp_path / "log.parquet"
    assert main(["data", "synth", "--preset", "tiny", "--rows", "500", "--out", str(log)]) == 0
    assert main(["eval", "--state", str(old), "--data", str(log), "--json"]) == 0
    assert '"step": 5' in capsys.readouterr().out


def copy_as_checkpoint(folder: Path, old: Path) -> Path:
    """The state as a checkpoint, which a run writes that goes on from it and trains no step."""
    run(steps=5, resume=str(old), save=str(folder / "copy"))
    assert kinds(folder / "copy") == {5: "full"}
    return folder / "copy"
