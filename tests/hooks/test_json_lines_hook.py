"""Lines of JSON: whole whatever happens, and each step once."""

import json
import os

import pytest

from recis_core.errors import NotAFile
from recis_core.hooks import EvaluateHook, JsonLinesHook
from recis_core.hooks.line_file import LineFile
from tests.hooks.fake_run import FakeRun, batches


def lines_of(path):
    """Without rates by time."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.get("train", {}).pop("rows_per_s", None)
    return lines


def run_of(path, like=None, **options):
    hook = JsonLinesHook(path, 4, **options)
    return FakeRun(hook, EvaluateHook(6), like=like)


def resumed(path, state, before):
    run = run_of(path, before)
    run.load(json.loads(json.dumps(state)))
    return run


def test_lines(tmp_path):
    path = tmp_path / "made" / "log.jsonl"
    run_of(path).train(batches(1, 9))
    lines = lines_of(path)
    assert [(line["step"], *(set(line) - {"step", "rows"})) for line in lines[:3]] == [
        (4, "train"), (6, "evaluate"), (8, "train"),
    ]  # fmt: skip
    assert lines[1] == {"step": 6, "rows": 48, "evaluate": {"auc": 0.506}}
    assert set(lines[0]["train"]) == {"loss", "accuracy"}
    assert {line["step"] for line in lines[3:]} == {9}
    assert [line.get("partial") for line in lines[3:]] == [None, True]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "whole.jsonl"
    run_of(path).train(batches(1, 16))
    return told(lines_of(path))


def told(lines):
    """Without losses, for runs here go on with weights that have gone on."""
    for line in lines:
        line.get("train", {}).pop("loss", None)
    return lines


@pytest.mark.parametrize("more", [0, 1, 5])
@pytest.mark.parametrize("saved", [1, 3, 4, 5, 6, 7, 8, 11, 12, 14])
def test_a_resumed_run_repeats_and_loses_no_line(undisturbed, tmp_path, saved, more):
    """The run is killed `more` steps after its checkpoint; the lines of those steps are cut."""
    path = tmp_path / "log.jsonl"
    run = run_of(path)
    run.call("before_train")
    for batch in batches(1, saved):
        run._step(batch)
    state = run.state()
    for batch in batches(saved + 1, saved + more):
        run._step(batch)
    run.call("end")  # a kill closes files, too
    with open(path, "ab") as file:
        file.write(b'{"step": 9')
    resumed(path, state, run).train(batches(saved + 1, 16))
    assert told(lines_of(path)) == undisturbed


def test_the_end_of_a_run_that_goes_on_is_cut(tmp_path):
    path = tmp_path / "log.jsonl"
    run = run_of(path)
    run.train(batches(1, 6))
    assert [line.get("partial") for line in lines_of(path)] == [None, None, True]
    resumed(path, run.state(), run).train(batches(7, 8))
    assert [(line["step"], "train" in line) for line in lines_of(path)] == [
        (4, True),
        (6, False),
        (8, True),
        (8, False),
    ]


def test_a_state_without_the_hook_keeps_lines_up_to_its_step(tmp_path):
    path = tmp_path / "log.jsonl"
    run_of(path).train(batches(1, 9))
    later = run_of(path)
    later.step, later.rows = 6, 48
    later.train(batches(7, 8))
    assert [line["step"] for line in lines_of(path)] == [4, 6, 8, 8]


def test_a_new_run_leaves_another_ones_lines_alone(tmp_path):
    path = tmp_path / "log.jsonl"
    run_of(path).train(batches(1, 4))
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"log.jsonl holds the lines of a run.*overwrite=True"):
        run_of(path).train(batches(1, 4))
    assert path.read_bytes() == before
    run_of(path, overwrite=True).train(batches(1, 8))
    assert [line["step"] for line in lines_of(path)] == [4, 6, 8, 8]


def test_a_file_of_other_things_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text('{"step": 1}\nmilk, eggs\n')
    with pytest.raises(ValueError, match=r"notes.txt holds other things.*line 2 .*milk, eggs.*Name another file"):
        run_of(path, overwrite=True).train(batches(1, 4))
    assert path.read_text() == '{"step": 1}\nmilk, eggs\n'
    with pytest.raises(NotAFile, match="is a directory"):
        run_of(tmp_path).train(batches(1, 4))


def test_a_link_stays_a_link(tmp_path):
    path, link = tmp_path / "log.jsonl", tmp_path / "link.jsonl"
    run_of(path).train(batches(1, 9))
    link.symlink_to(path)
    later = run_of(link)
    later.step, later.rows = 4, 32
    later.train(batches(5, 8))
    assert link.is_symlink()
    assert [line["step"] for line in lines_of(path)] == [4, 6, 8, 8]
    assert os.listdir(tmp_path) == ["log.jsonl", "link.jsonl"] or set(os.listdir(tmp_path)) == {
        "log.jsonl",
        "link.jsonl",
    }


def test_lines_stay_whole_where_a_write_is_cut_short(tmp_path, monkeypatch):
    file, write = LineFile(tmp_path / "log.jsonl"), os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:5]))
    file.write({"step": 1, "loss": float("inf")})
    file.close()
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1, "loss": null}\n'


def test_an_error_closes_the_file(tmp_path):
    run = run_of(tmp_path / "log.jsonl")
    hook = run.hooks[0]

    def broken():
        yield from batches(1, 4)
        raise RuntimeError("reader")

    with pytest.raises(RuntimeError, match="reader"):
        run.train(broken())
    assert hook._file is None
    assert [line["step"] for line in lines_of(tmp_path / "log.jsonl")] == [4]
