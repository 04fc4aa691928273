"""Which states `recis train` writes, keeps, takes over and goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import recis_core.serialize.places
from recis_core.cli import main
from recis_core.serialize import SavedState, latest_state

TINY = ["--preset", "tiny", "--rows", "3000"]
FLAGS = ["--batch-size", "250", "--dim", "4", "--backend", "numba", "--json", "--log-every", "100"]


def run(capsys: Any, *argv: str) -> dict[str, Any]:
    """The last line of a run that goes well."""
    status = main(["train", *argv, *FLAGS])
    out, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(out.splitlines()[-1])


def refused(capsys: Any, *argv: str) -> str:
    """What a run that is refused says, in one line."""
    status = main(["train", *argv, *FLAGS])
    out, err = capsys.readouterr()
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    return str(err)


def names(directory: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in directory.iterdir())


def write(path: Path, seed: int = 0, rows: int = 1000, **more: Any) -> str:
    rng = np.random.default_rng(seed)
    table = {
        "y": rng.integers(0, 2, rows).astype(float),
        "user": rng.integers(0, 50, rows),
        "x": rng.normal(size=rows),
    } | more
    pa.parquet.write_table(pa.table(table), path)
    return str(path)


def test_keep_removes_the_oldest_once_the_newest_is_whole(capsys, tmp_path, monkeypatch) -> None:
    save = tmp_path / "save"
    run(capsys, *TINY, "--save", str(save), "--save-every", "4", "--keep", "2")
    assert names(save) == [8, 11]
    plain, seen = recis_core.serialize.places.commit, []
    monkeypatch.setattr(
        recis_core.serialize.places, "commit", lambda *args: (seen.append(names_at(save)), plain(*args))[1]
    )
    run(capsys, *TINY, "--epochs", "2", "--resume", str(save), "--save", str(save), "--save-every", "10", "--keep", "1")
    assert seen == [[8, 11], [20]]  # at the two commits: the old one is there until then
    assert names(save) == [22]


def names_at(directory: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in directory.iterdir() if path.name.startswith("step-"))


def test_states_of_another_run_are_not_overwritten_without_a_word(capsys, tmp_path) -> None:
    save = str(tmp_path / "save")
    first = run(capsys, *TINY, "--save", save, "--save-every", "5")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    said = refused(capsys, *TINY, "--save", save, "--lr", "0.1")
    assert said.startswith(
        f"recis train: --save {save} holds states of another run (step-00000005, step-00000010, step-00000011)"
    )
    assert all(way in said for way in (f"--resume {save}", "another directory", "--overwrite"))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert run(capsys, *TINY, "--resume", save, "--save", save)["tables_sha256"] == first["tables_sha256"]
    run(capsys, *TINY, "--steps", "3", "--save", save, "--overwrite", "--lr", "0.1")
    assert names(Path(save)) == [3]


def test_states_of_later_steps_are_not_mixed_with_those_of_a_run_that_went_back(capsys, tmp_path) -> None:
    save = tmp_path / "save"
    run(capsys, *TINY, "--save", str(save), "--save-every", "4")
    back = [*TINY, "--resume", str(save / "step-00000004"), "--save", str(save), "--steps", "6"]
    assert "of later steps than the one that is resumed (step-00000008, step-00000011)" in refused(capsys, *back)
    run(capsys, *back, "--overwrite")
    assert names(save) == [4, 6]


def test_one_command_starts_and_restarts(capsys, tmp_path) -> None:
    save = str(tmp_path / "save")
    for steps in ("3", "5"):
        run(capsys, *TINY, "--steps", steps, "--resume", save, "--resume-if-any", "--save", save)
    assert names(Path(save)) == [3, 5]


def test_another_data_set_is_refused_and_begun_from(capsys, tmp_path) -> None:
    first, other = write(tmp_path / "a.parquet"), write(tmp_path / "b.parquet", 1)
    save = str(tmp_path / "save")
    run(capsys, "--data", first, "--label", "y", "--save", save)
    said = refused(capsys, "--data", other, "--label", "y", "--resume", save)
    assert "--data names other files than the saved run's: a.parquet gone, b.parquet new." in said
    assert f"--init-from {save}" in said
    begun = run(capsys, "--data", other, "--label", "y", "--init-from", save, "--save", str(tmp_path / "new"))
    assert begun["steps"] == 4
    state = SavedState(latest_state(tmp_path / "new"))
    counts = {"step": 4, "rows": 900, "epoch": 1, "window": 0, "epoch_in_window": 1, "mid_epoch": 0}
    assert state["extra"]["run"]["progress"] == counts
    assert set(state["optimizer"]["sparse"]["t"].values()) == {8}


def test_moved_files_are_the_same_data_set(capsys, tmp_path) -> None:
    first = write(tmp_path / "a.parquet")
    save = str(tmp_path / "save")
    whole = run(capsys, "--data", first, "--label", "y", "--save", save, "--save-every", "2")
    (tmp_path / "there").mkdir()
    moved = str(Path(first).rename(tmp_path / "there" / "a.parquet"))
    again = run(capsys, "--data", moved, "--label", "y", "--resume", f"{save}/step-00000002")
    assert again["tables_sha256"] == whole["tables_sha256"]


def rewritten(folder: Path) -> None:
    write(folder / "a.parquet", 5)


def longer(folder: Path) -> None:
    write(folder / "a.parquet", rows=1001)


def one_more(folder: Path) -> None:
    write(folder / "c.parquet", 2)


def one_less(folder: Path) -> None:
    (folder / "b.parquet").unlink()


def renamed(folder: Path) -> None:
    (folder / "a.parquet").rename(folder / "z.parquet")


@pytest.mark.parametrize("change", [rewritten, longer, one_more, one_less, renamed])
def test_a_data_set_that_changed_is_refused(capsys, tmp_path, change) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for seed, name in enumerate("ab"):
        write(folder / f"{name}.parquet", seed)
    data, save = ["--data", str(folder / "*.parquet"), "--label", "y"], str(tmp_path / "save")
    run(capsys, *data, "--save", save)
    change(folder)
    said = refused(capsys, *data, "--resume", save)
    assert "files" in said
    assert f"--init-from {save}" in said
    run(capsys, *data, "--init-from", save)


def test_test_data_that_comes_or_goes_is_refused(capsys, tmp_path) -> None:
    data, save = ["--data", write(tmp_path / "a.parquet"), "--label", "y"], str(tmp_path / "save")
    run(capsys, *data, "--save", save)
    said = refused(capsys, *data, "--test-data", write(tmp_path / "t.parquet", 3), "--resume", save)
    assert "--test-data" in said


def test_init_from_takes_the_optimizer_unless_told_otherwise(capsys, tmp_path) -> None:
    """Of a state at step 4, the next steps differ by the moments alone."""
    save = str(tmp_path / "save")
    run(capsys, *TINY, "--steps", "4", "--save", save, "--lr", "0.01")
    ends = {}
    for name, more in (("with", []), ("without", ["--fresh-optimizer", "--lr", "0.01"]), ("sgd", SGD)):
        new = str(tmp_path / name)
        ends[name] = run(capsys, *TINY, "--steps", "2", "--init-from", save, "--save", new, *more)["tables_sha256"]
    t = {name: SavedState(latest_state(tmp_path / name))["optimizer"]["sparse"]["t"] for name in ends}
    assert [set(t[name].values()) for name in ("with", "without", "sgd")] == [{6}, {2}, {2}]
    assert len(set(ends.values())) == 3
    said = refused(capsys, *TINY, "--init-from", save, *SGD[1:])
    assert "--fresh-optimizer" in said


SGD = ["--fresh-optimizer", "--optimizer", "sgd"]


def test_init_from_another_model_is_refused_with_the_way_out(capsys, tmp_path) -> None:
    save, tiny = str(tmp_path / "save"), write(tmp_path / "a.parquet")
    data = ["--data", tiny, "--label", "y"]
    run(capsys, *data, "--save", save)
    more, text = {"more": np.arange(1000)}, {"user": np.arange(1000).astype(str)}
    cases = (
        ([*data, "--model", "dlrm"], "--model deepfm, not dlrm"),
        (
            ["--data", write(tmp_path / "b.parquet", **more), *data[2:]],
            "fields user, 1 dense inputs, not fields user, more,",
        ),
        (["--data", write(tmp_path / "c.parquet", **text), *data[2:]], "ids of integer in user, not of text"),
        (TINY, "not fields"),
    )
    for flags, said in cases:
        told = refused(capsys, *flags, "--init-from", save)
        assert said in told
        assert "--init-from needs the same" in told
    status = main(["train", *data, *FLAGS, "--init-from", save, "--dim", "8"])
    assert status == 1
    assert "has --dim 4, not 8. --init-from needs the same" in capsys.readouterr().err


BEFORE = [
    (["--save", "{file}"], "--save {file} cannot be written to: Not a directory"),
    (["--save", "{file}/deep/er"], "--save {file}/deep/er cannot be written to ({file} is what there is): Not a"),
    (["--tensorboard", "{file}"], "--tensorboard {file} cannot be written to: Not a directory"),
    (["--resume", "{none}"], "--resume {none} holds no saved state"),
    (["--init-from", "{none}"], "--init-from {none} holds no saved state"),
    (["--sharding", "{none}.yaml"], "--sharding {none}.yaml: there is no file"),
]


@pytest.mark.parametrize(
    ("flags", "wanted"), BEFORE, ids=lambda value: str(value[0]) if isinstance(value, list) else ""
)
def test_what_would_fail_later_is_told_before(capsys, tmp_path, monkeypatch, flags, wanted) -> None:
    places = {"file": tmp_path / "file", "none": tmp_path / "none"}
    places["file"].write_text("")
    monkeypatch.setattr(recis_core.cli.train, "open_source", lambda *args: pytest.fail("a source was opened"))
    said = refused(capsys, *TINY, *(flag.format(**places) for flag in flags))
    assert wanted.format(**places) in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_tensorboard_that_is_not_installed_is_told_before(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr(recis_core.cli.train, "open_source", lambda *args: pytest.fail("a source was opened"))
    assert "--tensorboard needs" in refused(capsys, *TINY, "--tensorboard", str(tmp_path))


@pytest.mark.parametrize("flag", [["--keep", "2"], ["--overwrite"], ["--save-every", "3"]])
def test_flags_of_save_need_it(capsys, flag) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", *TINY, *flag])
    assert stop.value.code == 2
    assert "needs --save DIR" in capsys.readouterr().err
