"""Saved states: whole or not at all, checked when read, and resumed bit for bit."""

import re

import pytest
import torch

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.framework import TrainLoop
from recis_core.io import SyntheticClicks
from recis_core.models import DeepFM
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam, join
from recis_core.serialize import latest_state, load_state, save_state, tables_sha256
from tests.serialize.states import seal
from tests.training.loop import train_on_clicks

STATE = {
    "one": {"a": torch.arange(3), "b": [1, 2.5, None, True, "x"], 3: (torch.ones(2, 2), "y")},
    "two": {"empty": {}, "zero": torch.zeros(0, 4), "scalar": torch.tensor(1.5, dtype=torch.float64)},
}


def test_a_state_comes_back_as_it_went(tmp_path):
    path = save_state(tmp_path, 7, STATE)
    assert latest_state(tmp_path) == path == latest_state(path)
    back = load_state(path)
    assert back["one"]["b"] == STATE["one"]["b"]
    assert torch.equal(back["one"]["a"], torch.arange(3))
    assert isinstance(back["one"][3], tuple)
    assert back["two"]["zero"].shape == (0, 4)
    assert back["two"]["scalar"].item() == 1.5


def test_the_latest_step_wins_and_a_step_can_be_written_again(tmp_path):
    for step in (2, 10, 9, 10):
        save_state(tmp_path, step, {"x": {"step": step}})
    assert load_state(latest_state(tmp_path))["x"]["step"] == 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000009", "step-00000010"]


def test_unfinished_states_are_not_seen(tmp_path):
    (tmp_path / ".step-00000009.writing").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no saved state"):
        latest_state(tmp_path)


def test_damage_is_found(tmp_path):
    path = save_state(tmp_path, 1, STATE)
    file = path / "one.safetensors"
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(CorruptCheckpoint, match=r"one\.safetensors has hash"):
        load_state(path)
    file.write_bytes(good[:-1])
    with pytest.raises(CorruptCheckpoint, match=rf"one\.safetensors has {len(good) - 1} bytes"):
        load_state(path)
    file.unlink()
    with pytest.raises(CorruptCheckpoint, match=r"lacks one\.safetensors"):
        load_state(path)
    (path / "manifest.json").write_text("{")
    with pytest.raises(CorruptCheckpoint, match="cannot be read"):
        load_state(path)


def test_another_format_is_refused(tmp_path):
    path = save_state(tmp_path, 1, STATE)
    text = (path / "manifest.json").read_text()
    for found in ("(4, 1)", "(3, 99)"):
        kind, placed = found[1:-1].split(", ")
        other = text.replace('"format": 3, "placement": 1', f'"format": {kind}, "placement": {placed}')
        (path / "manifest.json").write_text(other)
        with pytest.raises(CorruptCheckpoint, match=re.escape(f"versions {found}, or is damaged")):
            load_state(path)
        seal(path, other.rpartition(', "xxh3_128"')[0].encode() + b"}")
        with pytest.raises(CorruptCheckpoint, match=re.escape(f"versions {found}; this recis-core reads (3, 1)")):
            load_state(path)


def test_what_cannot_be_saved_safely_is_named(tmp_path):
    with pytest.raises(TypeError, match="state at /f is a function"):
        save_state(tmp_path, 1, {"x": {"f": test_damage_is_found}})
    assert not list(tmp_path.glob("step-*"))


def loop_of(backend, dim=4):
    torch.manual_seed(0)
    fields = [f.name for f in SyntheticClicks("tiny").preset.fields]
    model = DeepFM(fields, dim, hidden=(8,), dropout=0.1, backend=backend)
    sparse = SparseAdam(filter_out_sparse_param(model), 1e-2)
    return TrainLoop(model, join(torch.optim.Adam(model.parameters(), 1e-2), sparse))


def test_a_resumed_run_ends_where_the_undisturbed_one_does(backend, tmp_path):
    half = 2 if backend == "pallas" else 5
    whole = loop_of(backend)
    train_on_clicks(whole, 128, 0, half)
    path = save_state(tmp_path, whole.step, whole.state())
    train_on_clicks(whole, 128, half, 2 * half)
    resumed = loop_of(backend)
    resumed.load_state(load_state(path))
    train_on_clicks(resumed, 128, half, 2 * half)
    tables, again = (filter_out_sparse_param(loop.model) for loop in (whole, resumed))
    assert tables_sha256(tables) == tables_sha256(again)
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))


def test_a_state_of_another_model_is_refused(tmp_path):
    path = save_state(tmp_path, 0, loop_of("torch").state())
    with pytest.raises(ValueError, match="does not fit this model at"):
        loop_of("torch", dim=8).load_state(load_state(path))
