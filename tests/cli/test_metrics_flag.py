"""--metrics of recis eval and recis train: what is reported is what predictions and columns give."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import recis_core.cli.eval
import recis_core.cli.measure
from recis_core.cli import main
from recis_core.cli.eval import EvalConfig
from recis_core.cli.measure import Asked, Measured, asked
from recis_core.cli.report import SilentReport
from recis_core.cli.taker import Taker
from recis_core.cli.train import train
from recis_core.cli.train_config import TrainConfig
from recis_core.hashing import hash_texts
from recis_core.metrics import metric_of
from tests.cli.clicks import TRAIN, clicks, last, refused, run, write
from tests.exchange.ranks import run_ranks

ASKED = (
    "logloss,ne,calibration,ece,rmse,gauc:user,gauc:session,gauc:place,recall@2:user,hit@2:user,ndcg@3:user,mrr:session"
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run of 500 test rows, whose columns session and place it does not read; what its test reported."""
    folder = tmp_path_factory.mktemp("saved")
    frame = clicks(500, 1).assign(session=np.arange(500) % 90, place=lambda f: f["city"].fillna("?") + "!")
    train_data = write(folder, "train.parquet", clicks(1500).assign(session=0, place=""))
    test_data, save = write(folder, "test.parquet", frame), str(folder / "save")
    flags = {
        "data": train_data, "test_data": test_data, "label": "click", "batch_size": 200, "dim": 4, "lr": 0.02,
        "backend": "numba", "epochs": 2, "skip": ("session", "place"), "save": save, "metrics": ("gauc:user", "mrr:session,ne"),
    }  # fmt: skip
    trained = train(TrainConfig(**flags), SilentReport())
    return {"train": train_data, "test": test_data, "save": save, "frame": frame, "trained": trained}


def test_metrics_are_those_of_the_scores(capsys: Any, tmp_path: Path, saved: dict[str, Any]) -> None:
    args = ["--state", saved["save"], "--data", saved["test"], "--backend", "numba"]
    got = last(capsys, "eval", *args, "--metrics", ASKED)
    out = str(tmp_path / "scores.parquet")
    last(capsys, "predict", *args, "--out", out)
    scores, frame = pq.read_table(out)["score"].to_numpy(), saved["frame"]
    groups = {
        "user": frame["user"].to_numpy(), "session": frame["session"].to_numpy(),
        "place": hash_texts(pa.array(frame["place"])).to_numpy(),
    }  # fmt: skip
    for said in ASKED.split(","):
        name, _, column = said.partition(":")
        want = metric_of(name)(scores, frame["click"].to_numpy(), groups[column] if column else None)
        assert got["metrics"][said] == pytest.approx(want, rel=1e-6), said
    assert list(got["metrics"]) == ASKED.split(",")
    assert got["metrics"]["logloss"] == pytest.approx(got["logloss"], rel=1e-12)
    assert saved["trained"]["metrics"] == {name: got["metrics"][name] for name in ("gauc:user", "mrr:session", "ne")}
    status, words, _ = run(capsys, "eval", *args, "--metrics", "gauc:user")
    assert (status, words.rstrip().split(", ")[-1]) == (0, f"gauc:user {got['metrics']['gauc:user']:.4f}")
    assert "metrics" not in last(capsys, "eval", *args)


def test_what_is_undefined_is_said(capsys: Any, tmp_path: Path, saved: dict[str, Any]) -> None:
    ones = write(tmp_path, "ones.parquet", clicks(50).assign(click=1))
    args = ["--state", saved["save"], "--data", ones, "--backend", "numba", "--metrics", "gauc:user", "logloss"]
    assert last(capsys, "eval", *args)["metrics"]["gauc:user"] is None
    assert "gauc:user undefined, logloss 0." in run(capsys, "eval", *args)[1]


def test_a_preset_s_fields_are_groups(capsys: Any) -> None:
    tiny = ["train", "--preset", "tiny", "--rows", "2000", *TRAIN]
    assert 0 < last(capsys, *tiny, "--metrics", "gauc:user")["metrics"]["gauc:user"] < 1
    out = run(capsys, *tiny, "--metrics", "ne")[1]
    assert "test AUC" in out.splitlines()[-1]
    assert "  ne " in out.splitlines()[-1]
    err = run(capsys, *tiny, "--metrics", "gauc:shop")[2]
    assert "--metrics: the preset has no field 'shop'; it has user," in err


WRONG = [
    ("gauc", "--metrics gauc needs the column of its groups, as gauc:user_id."),
    ("gacu:user", "--metrics: a metric is one of auc, gauc,"),
    ("auc:user", "--metrics auc:user: auc takes no groups; leave :user out."),
    ("ne,ne", "--metrics names 'ne' twice."),
    ("ne,", "--metrics: a metric is one of"),
]


@pytest.mark.parametrize(("flag", "said"), WRONG)
def test_a_wrong_name_is_told_at_once(capsys: Any, flag: str, said: str) -> None:
    for command in (["train", "--preset", "tiny"], ["eval", "--state", "x", "--data", "y"]):
        with pytest.raises(SystemExit) as stop:
            main([*command, "--metrics", flag])
        err = capsys.readouterr().err
        assert (stop.value.code, len(err.splitlines())) == (2, 1)
        assert said in err


def test_a_column_that_does_not_do(capsys: Any, saved: dict[str, Any]) -> None:
    args = ["eval", "--state", saved["save"], "--data", saved["test"], "--backend", "numba", "--metrics"]
    assert "has no column 'shop' for --metrics; it has click, user," in refused(capsys, *args, "gauc:shop")
    assert "--metrics names 'x' as groups, which the model reads as no ids" in refused(capsys, *args, "gauc:x")
    assert "--metrics names 'click' as groups" in refused(capsys, *args, "gauc:click")
    said = run(capsys, *args, "gauc:tags")[2]
    assert "--metrics: a row must hold one group; column 'tags' holds " in said
    assert "in row " in said


def evaluated(rank: int, world: int, settings: dict[str, Any], test: str) -> list[Any]:
    trained = train(TrainConfig(**settings), SilentReport())
    config = EvalConfig(state=settings["save"], data=test, metrics=settings["metrics"])
    return [trained["metrics"], recis_core.cli.eval._evaluation(config, Taker(rank, world))["metrics"]]


def test_ranks_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank measures its rows; the values are those of all rows, on both."""
    p, y, user = torch.rand(90, dtype=torch.float64), torch.arange(90) % 3 == 0, torch.arange(90) % 11
    asked_for = asked(["auc,gauc:user,ne"])
    barrier, sent = threading.Barrier(2), {}

    def gathered(rank: Any, part: Any, kind: str) -> list[Any]:
        sent[rank] = part
        barrier.wait(60)
        everyone = [sent[0], sent[1]]
        barrier.wait(60)
        return everyone

    monkeypatch.setattr(recis_core.cli.measure, "gathered", gathered)
    ranks = [measured(asked_for, p[rows], y[rows], user[rows]) for rows in (slice(0, 20), slice(20, 90))]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda rank: ranks[rank].values(rank), range(2)))  # type: ignore[arg-type]
    assert found[0] == found[1] == pytest.approx(measured(asked_for, p, y, user).values(None), rel=1e-12)


def measured(metrics: list[Asked], p: torch.Tensor, y: torch.Tensor, user: torch.Tensor) -> Measured:
    """Of a model whose logits are in its batch."""

    class Given(torch.nn.Module):
        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return batch["logits"]

    model, found = Given(), Measured(metrics)
    with found.watching(model):
        model({"logits": torch.logit(p), "label": y.float(), "user": user})
    model({"logits": torch.zeros(5), "label": torch.ones(5), "user": torch.ones(5)})  # outside, so not measured
    return found


@pytest.mark.full
def test_on_ranks(capsys: Any, saved: dict[str, Any]) -> None:
    """The values of all rows, on each rank."""
    asked = ("ne", "gauc:user", "recall@2:session", "auc")
    settings = {
        "data": saved["train"], "test_data": saved["test"], "label": "click", "batch_size": 200, "dim": 4, "metrics": asked,
        "skip": ("session", "place"), "save": saved["save"] + "-ranks",
    }  # fmt: skip
    ends = run_ranks(2, evaluated, settings, saved["test"])
    args = ["--state", settings["save"], "--data", saved["test"], "--backend", "numba", "--metrics", ",".join(asked)]
    alone = last(capsys, "eval", *args)["metrics"]
    for trained, again in ends:
        assert trained == pytest.approx(alone, abs=1e-6)
        assert again == pytest.approx(alone, abs=1e-6)
