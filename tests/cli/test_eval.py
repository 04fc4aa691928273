"""recis eval: metrics of a saved run on files, without knowing how its model was built."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

import recis_core.cli.eval
from recis_core.cli.eval import EvalConfig
from recis_core.cli.report import SilentReport
from recis_core.cli.taker import Taker
from recis_core.cli.train import train
from recis_core.cli.train_config import TrainConfig
from recis_core.serialize import save_state
from tests.cli.clicks import TRAIN, clicks, last, refused, run, write
from tests.exchange.ranks import run_ranks

SAME = ("auc", "logloss", "rows")


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    return {
        "train": write(tmp_path, "train.parquet", clicks(1500)),
        "test": write(tmp_path, "test.parquet", clicks(500, 1)),
        "save": str(tmp_path / "save"),
    }


@pytest.mark.parametrize("model", [["--model", "deepfm"], ["--model", "dlrm", "--optimizer", "adagrad"]])
def test_the_test_of_the_run_comes_again(capsys, data, model) -> None:
    trained = last(
        capsys, "train", "--data", data["train"], "--test-data", data["test"], "--label", "click", *TRAIN, *model,
        "--save", data["save"],
    )  # fmt: skip
    for state in (data["save"], f"{data['save']}/step-{trained['steps']:08d}"):
        got = last(capsys, "eval", "--state", state, "--data", data["test"], "--backend", "numba")
        assert {name: got[name] for name in SAME} == {name: trained[name] for name in SAME}
        assert got["step"] == trained["steps"]
    status, out, _ = run(capsys, "eval", "--state", data["save"], "--data", data["test"], "--backend", "torch")
    assert (status, out.split(": ")[0]) == (0, f"500 rows, step {trained['steps']}")
    assert f"AUC {trained['auc']:.4f}, log loss {trained['logloss']:.4f}" in out


FLAGS = [
    ["--admit", "frequency(2)"],
    ["--evict", "lru(50)", "--evict-every", "3"],
    ["--cache-device-rows", "64", "--cache-policy", "lru"],
    ["--string-columns", "user", "--skip", "tags", "--dense-columns", "user_dense"],
]


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: flags[0])
def test_whatever_flags_it_was_trained_with(capsys, tmp_path, flags) -> None:
    frames = [frame.assign(user_dense=frame["user"]) for frame in (clicks(1500), clicks(500, 1))]
    train_data, test_data = (write(tmp_path, f"{i}.parquet", frame) for i, frame in enumerate(frames))
    save = str(tmp_path / "save")
    files = ["--data", train_data, "--test-data", test_data, "--label", "click"]
    trained = last(capsys, "train", *files, *TRAIN, *flags, "--save", save)
    got = last(capsys, "eval", "--state", save, "--data", test_data, "--backend", "numba")
    assert {name: got[name] for name in SAME} == {name: trained[name] for name in SAME}


def test_a_preset_s_run_on_its_own_log(capsys, tmp_path) -> None:
    save, log = str(tmp_path / "save"), str(tmp_path / "log.parquet")
    trained = last(capsys, "train", "--preset", "tiny", "--rows", "3000", *TRAIN, "--save", save)
    run(capsys, "data", "synth", "--preset", "tiny", "--rows", "3000", "--out", log)
    got = last(capsys, "eval", "--state", save, "--data", log, "--truth", "p", "--backend", "numba")
    assert got["rows"] == 3000
    assert got["auc"] > 0.5 < got["bayes_auc"]
    assert got["step"] == trained["steps"]


def test_other_columns_and_another_label(capsys, tmp_path, data) -> None:
    """Columns in another order, one more, and the label under another name."""
    last(capsys, "train", "--data", data["train"], "--label", "click", *TRAIN, "--save", data["save"])
    want = last(capsys, "eval", "--state", data["save"], "--data", data["test"], "--backend", "numba")
    frame = clicks(500, 1).assign(more="text", bought=lambda f: f["click"].astype(bool)).drop(columns="click")
    other = write(tmp_path, "other.parquet", frame[sorted(frame.columns)])
    got = last(capsys, "eval", "--state", data["save"], "--data", other, "--label", "bought", "--backend", "numba")
    assert got == want


def test_mistakes(capsys, tmp_path, data) -> None:
    last(capsys, "train", "--data", data["train"], "--label", "click", *TRAIN, "--save", data["save"])
    frame = clicks(50)
    files = {
        "no_label": frame.drop(columns="click"),
        "no_user": frame.drop(columns="user"),
        "text": frame.assign(user=frame["user"].astype(str)),
        "numbers": frame.assign(city=7),
        "two": frame.assign(click=2),
    }
    paths = {name: write(tmp_path, f"{name}.parquet", made) for name, made in files.items()}
    wanted = {
        "no_label": "no_label.parquet has no column 'click' for --label; it has user, city, tags, x. recis predict scores",
        "no_user": "no_user.parquet has no column 'user'",
        "text": "column 'user' of",
        "numbers": "column 'city' of",
        "two": "'click'",
    }
    for name, said in wanted.items():
        assert said in refused(capsys, "eval", "--state", data["save"], "--data", paths[name], "--backend", "numba")
    for name in ("text", "numbers"):
        said = refused(capsys, "eval", "--state", data["save"], "--data", paths[name], "--backend", "numba")
        assert "the run was trained on ids of" in said
    args = ["eval", "--state", data["save"], "--data", data["test"]]
    for flags in (["--truth", "x"], ["--label", "user"]):
        assert f"{flags[0]} names '{flags[1]}', which the run reads as an input." in refused(capsys, *args, *flags)
    assert "has no column 'p' for --truth" in refused(capsys, *args, "--truth", "p")
    assert "holds no saved state" in refused(capsys, "eval", "--state", str(tmp_path), "--data", data["test"])
    none = str(tmp_path / "none.parquet")
    assert f"--data {none} names no file" in refused(capsys, "eval", "--state", data["save"], "--data", none)


def test_a_state_that_does_not_say_how_its_model_was_built(capsys, tmp_path, data) -> None:
    save_state(tmp_path / "states", 1, {"dense": {}})
    said = refused(capsys, "eval", "--state", str(tmp_path / "states"), "--data", data["test"])
    assert "does not say how its model was built. recis train --save writes that" in said


def test_integers_of_other_widths_and_bools_are_the_same_ids(capsys, tmp_path, data) -> None:
    last(capsys, "train", "--data", data["train"], "--label", "click", *TRAIN, "--save", data["save"])
    narrow = write(tmp_path, "narrow.parquet", clicks(500, 1).astype({"user": "uint8"}))
    got = [
        last(capsys, "eval", "--state", data["save"], "--data", d, "--backend", "numba") for d in (narrow, data["test"])
    ]
    assert got[0] == got[1]


def test_one_class(capsys, tmp_path, data) -> None:
    last(capsys, "train", "--data", data["train"], "--label", "click", *TRAIN, "--save", data["save"])
    ones = write(tmp_path, "ones.parquet", clicks(50).assign(click=1))
    args = ["eval", "--state", data["save"], "--data", ones, "--backend", "numba"]
    assert last(capsys, *args)["auc"] is None
    assert "AUC none, for all labels are alike" in run(capsys, *args)[1]


def test_ctrl_c(capsys, data, monkeypatch) -> None:
    last(capsys, "train", "--data", data["train"], "--label", "click", *TRAIN, "--save", data["save"])
    plain = recis_core.cli.eval.evaluate

    def interrupted(model: Any, batches: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return plain(model, batches)

    monkeypatch.setattr(recis_core.cli.eval, "evaluate", interrupted)
    got = run(capsys, "eval", "--state", data["save"], "--data", data["test"], "--backend", "numba")
    assert got == (130, "", "recis eval: Ctrl-C ended it; nothing was evaluated.\n")


def trained_and_evaluated(rank: int, world: int, settings: dict[str, Any], test: str) -> list[dict[str, Any]]:
    """[the end of training, eval of what it saved] on ranks."""
    trained = train(TrainConfig(**settings), SilentReport())
    config = EvalConfig(state=settings["save"], data=test)
    return [trained, recis_core.cli.eval._evaluation(config, Taker(rank, world))]


def test_on_ranks_and_of_ranks(capsys, data) -> None:
    """A state of two ranks, on two and on one."""
    settings = {
        "data": data["train"], "test_data": data["test"], "label": "click", "batch_size": 200, "dim": 4, "save": data["save"],
    }  # fmt: skip
    ends = run_ranks(2, trained_and_evaluated, settings, data["test"])
    alone = last(capsys, "eval", "--state", data["save"], "--data", data["test"], "--backend", "numba")
    for trained, got in ends:
        for found in (got, alone):
            assert found["rows"] == trained["rows"] == 500
            assert found["auc"] == pytest.approx(trained["auc"], abs=1e-6)
            assert found["logloss"] == pytest.approx(trained["logloss"], rel=1e-6)
    assert json.dumps(ends[0][1])
