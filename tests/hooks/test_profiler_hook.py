"""ProfilerHook: files that Perfetto opens, of the steps that were asked for."""

import gzip
import json
import sys

import pytest
import torch

from recis_core.errors import RecisError
from recis_core.hooks import Hook, ProfilerHook
from recis_core.hooks.profiler_hook import kinds_of
from tests.hooks.fake_run import FakeRun, Model, batches


def events(path):
    """As Perfetto reads Chrome's format: an object with traceEvents, each with a phase, complete ones with time and duration."""
    with gzip.open(path, "rt") as file:
        found = [event for event in json.load(file)["traceEvents"] if event]  # JAX ends its list with an empty one
    assert all("ph" in event for event in found)
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in found if event["ph"] == "X")
    return found


def names(path):
    return [event.get("name", "") for event in events(path)]


class Marks(Hook):
    def before_step(self, run, batch):
        with torch.profiler.record_function(f"mark of step {run.step + 1}"):
            pass


def test_traces_of_chosen_steps(tmp_path):
    hook = ProfilerHook(tmp_path / "traces", [2, 3, 6])
    FakeRun(hook, Marks()).train(batches(1, 7))
    assert hook.files == [tmp_path / "traces" / f"torch-steps-{steps}.json.gz" for steps in ("2-3", "6-6")]
    marks = [[name for name in names(path) if name.startswith("mark")] for path in hook.files]
    assert marks == [["mark of step 2", "mark of step 3"], ["mark of step 6"]]
    assert any("addmm" in name for name in names(hook.files[0]))


def test_an_error_writes_what_was_recorded(tmp_path):
    hook = ProfilerHook(tmp_path, range(2, 100))

    def broken():
        yield from batches(1, 4)
        raise RuntimeError("reader")

    with pytest.raises(RuntimeError, match="reader"):
        FakeRun(hook, Marks()).train(broken())
    assert [path.name for path in hook.files] == ["torch-steps-2-99.json.gz"]
    assert "mark of step 4" in names(hook.files[0])


def test_another_profiler_is_left_alone(tmp_path):
    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as theirs,
        pytest.raises(RecisError, match="another profiler of torch is recording.*leave the hook out"),
    ):
        FakeRun(ProfilerHook(tmp_path, [1])).train(batches(1, 2))
    assert len(theirs.events()) > 0


def test_a_file_in_place_of_the_directory(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file"):
        FakeRun(ProfilerHook(tmp_path / "file", [1])).train(batches(1, 2))


def test_other_ranks_write_nothing(tmp_path):
    run = FakeRun(hook := ProfilerHook(tmp_path / "traces", [1]))
    run.rank = 1
    run.train(batches(1, 2))
    assert hook.files == []
    assert not (tmp_path / "traces").exists()


@pytest.mark.parametrize(
    ("steps", "error", "said"),
    [([], ValueError, "at least one step"), ([0], ValueError, "at least 1"), ([2.5], TypeError, "must be an int")],
)
def test_steps_are_checked(tmp_path, steps, error, said):
    with pytest.raises(error, match=said):
        ProfilerHook(tmp_path, steps)


def test_jax_is_traced_where_tables_are_on_it():
    assert set(kinds_of(FakeRun())) == {"torch"}
    assert set(kinds_of(FakeRun(model=Model("numba")))) == {"torch"}


@pytest.mark.full
def test_jax_traces(tmp_path):
    hook = ProfilerHook(tmp_path, [2, 3])
    FakeRun(hook, model=Model("jax")).train(batches(1, 4))
    assert [path.name for path in hook.files] == ["jax-steps-2-3.json.gz", "torch-steps-2-3.json.gz"]
    assert any(name.startswith("PjitFunction") for name in names(hook.files[0]))
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    assert "jax" in sys.modules


class Unfinished:
    def __init__(self, name):
        self.name = name

    def finish(self):
        raise OSError(f"{self.name} is full")


def test_all_errors_of_traces_are_told(tmp_path):
    hook = ProfilerHook(tmp_path, [1])
    hook._traces = [Unfinished("b"), Unfinished("a")]
    with pytest.raises(OSError, match="a is full") as caught:
        hook._finish()
    assert caught.value.__notes__ == ["Another trace failed, too: OSError: b is full"]
    assert hook._traces == []
