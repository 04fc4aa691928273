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
from tests.hooks.trace_events import events


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


def slice_of(ts, dur, **more):
    return {"ph": "X", "name": "s", "pid": 1, "tid": 2, "ts": ts, "dur": dur, **more}


def test_what_perfetto_would_drop_is_seen(tmp_path):
    def written(*found, text=None):
        path = tmp_path / "trace.json.gz"
        with gzip.open(path, "wt") as file:
            file.write(text or json.dumps({"traceEvents": list(found)}))
        return path

    fine = [slice_of(0, 10), slice_of(2, 3), slice_of(5, 5), slice_of(3, 20, tid=3), {}]
    assert len(events(written(*fine))) == 4
    for wrong, said in (
        ({"name": "s"}, "no phase"), (slice_of(1, -1), "no duration"), (slice_of(float("nan"), 1), "NaN is no JSON"),
        (slice_of(1, 1, pid=None), "pid or tid"), ({"ph": "M", "name": "thread_name", "pid": 1}, "metadata without args"),
        (slice_of(8, 5), "overlaps without lying inside"), ({**slice_of(1, 1), "ts": "soon"}, "no time"),
        ({"ph": "E", "pid": 1, "tid": 2, "ts": 3}, "ends what did not begin"),
        ({"ph": "f", "pid": 1, "tid": 2, "ts": 3, "id": 9}, "an arrow from nowhere"),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match=said):
            events(written(*fine, wrong))
    with pytest.raises(AssertionError, match="wanted an object"):
        events(written(text="[]"))


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
