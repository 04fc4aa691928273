"""recis predict: a Parquet of scores, in the order of the rows, whole or not at all."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

import recis_core.cli.predict
from recis_core.metrics import auc, logloss
from tests.cli.clicks import TRAIN, clicks, last, refused, run, write


@pytest.fixture
def save(capsys: Any, tmp_path: Path) -> str:
    path = str(tmp_path / "save")
    last(
        capsys,
        "train",
        "--data",
        write(tmp_path, "train.parquet", clicks(1500)),
        "--label",
        "click",
        *TRAIN,
        "--save",
        path,
    )
    return path


def predicted(capsys: Any, save: str, data: str, out: Path, *more: str) -> pa.Table:
    said = last(
        capsys,
        "predict",
        "--state",
        save,
        "--data",
        data,
        "--out",
        str(out),
        "--backend",
        "numba",
        "--overwrite",
        *more,
    )
    table = pq.read_table(out, partitioning=None)
    assert said == {"rows": len(table), "out": str(out)}
    return table


def test_scores_are_those_that_eval_measures(capsys, tmp_path, save) -> None:
    """In the rows' order; unknown ids too; and no label is needed."""
    frame = pd.concat([clicks(300, 1), clicks(50, 2, unknown=10**12)])
    data = write(tmp_path, "data.parquet", frame, row_group_size=70)
    table = predicted(capsys, save, data, tmp_path / "out.parquet")
    assert table.schema == pa.schema([pa.field("score", pa.float32(), nullable=False)])
    scores, labels = table["score"].to_numpy().astype(float), frame["click"].to_numpy()
    want = last(capsys, "eval", "--state", save, "--data", data, "--backend", "numba")
    assert (want["auc"], want["logloss"]) == pytest.approx((auc(scores, labels), logloss(scores, labels)), rel=1e-6)
    bare = write(tmp_path, "bare.parquet", frame.drop(columns="click"))
    assert predicted(capsys, save, bare, tmp_path / "out.parquet").equals(table)
    small = predicted(capsys, save, bare, tmp_path / "out.parquet", "--batch-size", "37")
    np.testing.assert_allclose(small["score"].to_numpy(), table["score"].to_numpy(), rtol=1e-5)


def test_a_row_s_score_is_the_same_wherever_it_stands(capsys, tmp_path, save) -> None:
    frame = clicks(200, 1)
    order = np.random.default_rng(0).permutation(len(frame))
    forth = predicted(capsys, save, write(tmp_path, "a.parquet", frame), tmp_path / "a.out.parquet")
    back = predicted(capsys, save, write(tmp_path, "b.parquet", frame.iloc[order]), tmp_path / "b.out.parquet")
    np.testing.assert_allclose(back["score"].to_numpy(), forth["score"].to_numpy()[order], rtol=1e-6)


def test_columns_are_kept_as_they_are(capsys, tmp_path, save) -> None:
    """Of several files with several row groups, and of partition folders."""
    frames = [clicks(120, 1).assign(when=pd.Timestamp("2026-01-02"), name=list("äb") * 60), clicks(80, 2)]
    frames[1] = frames[1].assign(when=pd.Timestamp("2026-01-03"), name="c")
    for number, frame in enumerate(frames):
        write(tmp_path / "data", f"day={number}/part.parquet", frame, row_group_size=50)
    keep = ["name", "tags", "when", "day", "x"]
    table = predicted(capsys, save, str(tmp_path / "data"), tmp_path / "out.parquet", "--keep-columns", *keep)
    assert table.column_names == [*keep, "score"]
    assert table["day"].to_pylist() == [0] * 120 + [1] * 80
    held = [pq.read_table(tmp_path / "data" / f"day={n}" / "part.parquet", partitioning=None) for n in (0, 1)]
    for name in ("name", "tags", "when", "x"):
        assert table[name].type == held[0][name].type
        assert table[name].combine_chunks().equals(pa.concat_tables(held)[name].combine_chunks())


def csv(frame: pd.DataFrame, folder: Path) -> str:
    frame.to_csv(folder / "data.csv", index=False)
    return str(folder / "data.csv")


def orc(frame: pd.DataFrame, folder: Path) -> str:
    pa.orc.write_table(pa.Table.from_pandas(frame), folder / "data.orc")
    return str(folder / "data.orc")


def feather(frame: pd.DataFrame, folder: Path) -> str:
    frame.to_feather(folder / "data.feather")
    return str(folder / "data.feather")


@pytest.mark.parametrize("form", [csv, orc, feather])
def test_files_of_another_format_than_the_run_s(capsys, tmp_path, form) -> None:
    frames = [clicks(1000).drop(columns="tags"), clicks(100, 1).drop(columns="tags")]
    save, out = str(tmp_path / "save"), tmp_path / "out.parquet"
    last(capsys, "train", "--data", write(tmp_path, "t.parquet", frames[0]), "--label", "click", *TRAIN, "--save", save)
    want = predicted(capsys, save, write(tmp_path, "p.parquet", frames[1]), out, "--keep-columns", "user")
    got = predicted(capsys, save, form(frames[1], tmp_path), out, "--keep-columns", "user")
    assert got.to_pydict() == want.to_pydict()


def test_out_is_not_overwritten_without_a_word(capsys, tmp_path, save) -> None:
    data, out = write(tmp_path, "data.parquet", clicks(20)), tmp_path / "out.parquet"
    out.write_text("mine")
    args = ["predict", "--state", save, "--data", data, "--backend", "numba", "--out"]
    assert "is there already. Name another file, or give --overwrite." in refused(capsys, *args, str(out))
    assert out.read_text() == "mine"
    assert run(capsys, *args, str(out), "--overwrite")[0] == 0
    assert len(pq.read_table(out)) == 20
    assert "--out must end in .parquet" in refused(capsys, *args, str(tmp_path / "out.csv"))
    assert "there is no directory" in refused(capsys, *args, str(tmp_path / "none" / "out.parquet"))


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (0, 1)])
def test_whole_or_not_at_all(capsys, tmp_path, save, monkeypatch, there, number, status) -> None:
    """Ended by a signal, or by an error, in the third batch: nothing is left, and what was there stays."""
    data, out = write(tmp_path, "data.parquet", clicks(300)), tmp_path / "out.parquet"
    if there:
        out.write_text("mine")
    before, plain, calls = sorted(tmp_path.iterdir()), recis_core.cli.predict._scored, []

    def breaking(*args: Any) -> Any:
        calls.append(None)
        if len(calls) == 3:
            if not number:
                raise OSError(28, "No space left on device", str(out))
            signal.raise_signal(number)
        return plain(*args)

    monkeypatch.setattr(recis_core.cli.predict, "_scored", breaking)
    got, said, err = run(
        capsys, "predict", "--state", save, "--data", data, "--out", str(out), "--batch-size", "100", "--backend", "numba",
        "--overwrite",
    )  # fmt: skip
    assert (got, said, len(err.splitlines())) == (status, "", 1)
    assert sorted(tmp_path.iterdir()) == before
    assert not there or out.read_text() == "mine"


def test_mistakes_in_kept_columns(capsys, tmp_path, save) -> None:
    first, second = clicks(20), clicks(20).assign(x=1)
    data = write(tmp_path / "data", "a.parquet", first.assign(score=1.0))
    args = ["predict", "--state", save, "--out", str(tmp_path / "out.parquet"), "--backend", "numba"]
    assert "has no column 'z' for --keep-columns" in refused(capsys, *args, "--data", data, "--keep-columns", "z")
    assert "--score-column gives another" in refused(capsys, *args, "--data", data, "--keep-columns", "score")
    write(tmp_path / "data", "b.parquet", second.assign(score=1.0))
    said = refused(capsys, *args, "--data", str(tmp_path / "data"), "--keep-columns", "x")
    assert "column 'x' is double in" in said
    assert "int64 in" in said
    assert not (tmp_path / "out.parquet").exists()
    table = predicted(capsys, save, data, tmp_path / "o.parquet", "--keep-columns", "score", "--score-column", "p")
    assert table.column_names == ["score", "p"]


def test_no_rows(capsys, tmp_path, save) -> None:
    empty = write(tmp_path, "empty.parquet", clicks(20).iloc[:0].astype({"city": "string"}))
    assert len(predicted(capsys, save, empty, tmp_path / "out.parquet", "--keep-columns", "user")) == 0
