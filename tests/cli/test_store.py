"""A run whose states, files and scores lie in a store that fsspec opens: every command that takes them takes their URLs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest

from recis_core.cli import main
from recis_core.serialize import latest_state
from tests.cli.clicks import TRAIN, clicks, last, run, write

Words = list[str]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return f"memory://{tmp_path.name}"


@pytest.fixture
def train(tmp_path: Path) -> Words:
    data = write(tmp_path, "train.parquet", clicks(1500))
    return ["train", "--data", data, "--label", "click", *TRAIN]


def said(capsys: Any, *argv: str) -> str:
    """Of what is refused."""
    try:
        status: Any = main(list(argv))
    except SystemExit as stop:  # wrong flags
        status = stop.code
    assert status in (1, 2)
    return str(capsys.readouterr().err)


def put(url: str, local: str) -> str:
    fs, inner = fsspec.core.url_to_fs(url)
    fs.put_file(local, inner)
    return url


def test_a_run_is_saved_resumed_and_begun_from(capsys: Any, url: str, train: Words) -> None:
    states = f"{url}/run"
    first = last(capsys, *train, "--save", states, "--steps", "5")
    assert latest_state(states).name == "step-00000005"
    assert "holds states of another run (step-00000005)" in said(capsys, *train, "--save", states)
    whole = last(capsys, *train, "--save", states, "--resume", states)
    assert whole["steps"] > first["steps"] == 5
    again = last(capsys, *train, "--save", states, "--resume", states, "--resume-if-any")
    assert again["steps"] == whole["steps"]
    new = last(capsys, *train, "--save", f"{url}/new", "--resume", f"{url}/new", "--resume-if-any", "--steps", "2")
    assert new["steps"] == 2
    begun = last(capsys, *train, "--init-from", states, "--steps", "1")
    assert begun["steps"] == 1
    last(capsys, *train, "--save", f"{url}/new", "--overwrite", "--steps", "3", "--seed", "5")
    fs, inner = fsspec.core.url_to_fs(f"{url}/new")
    assert [name.rpartition("/")[2] for name in fs.ls(inner, detail=False)] == ["step-00000003"]


def test_a_run_is_measured_scored_and_exported(capsys: Any, url: str, train: Words, tmp_path: Path) -> None:
    states = f"{url}/run"
    last(capsys, *train, "--save", states)
    data = put(f"{url}/test.parquet", write(tmp_path, "test.parquet", clicks(300)))
    assert last(capsys, "eval", "--state", states, "--data", data)["rows"] == 300
    scores = ["predict", "--state", states, "--data", data, "--out", f"{url}/scores.parquet"]
    assert last(capsys, *scores)["rows"] == 300
    here = [*scores[:-1], str(tmp_path / "scores.parquet")]
    last(capsys, *here)
    with fsspec.open(f"{url}/scores.parquet", "rb") as file:
        assert pq.read_table(file).equals(pq.read_table(tmp_path / "scores.parquet"))
    assert "is there already, and is not replaced" in said(capsys, *scores)
    assert "--overwrite replaces a file of this machine" in said(capsys, *scores, "--overwrite")
    status, out, _ = run(capsys, "ckpt", "show", states, "--json")
    assert status == 0
    table = next(iter(json.loads(out)["tables"]))
    assert main(["ckpt", "export", states, f"{url}/rows.parquet", "--table", table]) == 0
    with fsspec.open(f"{url}/rows.parquet", "rb") as file:
        assert pq.read_table(file).column_names == ["id", "vector"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--save", "nostore://x/y"], "nostore://x/y cannot be opened: Protocol not known: nostore"),
        (["--tensorboard", "memory://x"], "--tensorboard must be a path of this machine; got the URL memory://x"),
        (
            ["--cache-device-rows", "9", "--cache-host-rows", "9", "--cache-disk", "memory://x"],
            "disk must be a path of this machine; got the URL memory://x",
        ),
        (["--resume", "memory://nothing/there"], "--resume memory:///nothing/there holds no saved state"),
        (["--init-from", "memory://nothing/there"], "--init-from memory:///nothing/there holds no saved state"),
    ],
)
def test_what_cannot_be_there_is_said_first(capsys: Any, url: str, train: Words, flags: Words, words: str) -> None:
    before = os.listdir()
    assert words in said(capsys, *train, *flags)
    assert os.listdir() == before
