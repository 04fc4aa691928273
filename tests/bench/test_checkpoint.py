"""`python -m bench checkpoint`, small: every way gives back what was saved, and each row says how fast."""

import json

import pytest

from recis_core.bench import checkpoint, checkpoint_memory, checkpoint_turns

WAYS = """DISK_WRITE DISK_READ SAVE LOAD STALL STEP LOST DONE REMOVED COPY WRITE_HASHED READ_HASHED DCP_SAVE DCP_LOAD
  FETCHED DCP_FETCHED"""


def test_rows_of_a_small_run(tmp_path):
    ways = checkpoint_turns.turns(tmp_path, 2000, 8, 1, 0)
    named = {value for name, value in vars(checkpoint_turns).items() if name in WAYS.split()}
    assert {way["way"] for way in ways} == named
    assert all(way["mb"] == pytest.approx(2000 * (8 + 3 * 32) / 1e6) and way["mb_per_s"] != 0 for way in ways)
    stall, lost, save, load = [*checkpoint.stall(ways), *checkpoint.speeds(ways)]
    assert stall["value"] > 0
    assert lost["detail"] == checkpoint_turns.LOST
    assert (save["goal"], load["met"]) == (0.7, load["value"] >= 0.7)


def test_a_delta(tmp_path):
    found = checkpoint_turns.delta(tmp_path, 5000, 8, 0.01, 0)
    assert 0.01 < found["value"] < 0.1


def test_a_load_that_differs_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_turns.CheckpointManager, "restore", lambda self: None)
    with pytest.raises(RuntimeError, match="was not loaded as it was saved"):
        checkpoint_turns.turns(tmp_path, 2000, 8, 1, 0)


def test_memory_of_a_small_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(checkpoint_memory, "TIER", 1 << 18)
    for verb in ("save", "load"):
        checkpoint_memory.main({"verb": verb, "megabytes": 2, "directory": str(tmp_path)})
    save, load = map(json.loads, capsys.readouterr().out.splitlines())
    assert (save["verb"], load["verb"], save["table_mb"]) == ("save", "load", 1)
    assert min(save["rss_peak"], load["rss_peak"]) > 0
