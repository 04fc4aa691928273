"""python -m bench trainer: all runs have the loop's losses, and each has its row."""

import json

import pytest

from recis_core.bench import trainer
from recis_core.bench.trainer import LOOP, TRAINER, TrainerConfig, by_hand, by_trainer, check, competitors

SMALL = {"batch": 16, "fields": 2, "dim": 2, "backend": "torch", "steps": 2, "turns": 2}


def test_rows(tmp_path):
    out = tmp_path / "rows.jsonl"
    flags = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    assert trainer.run([*flags, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    names = [row["name"] for row in rows]
    assert names[:3] == [LOOP, TRAINER, "LoggerHook"]
    assert len(set(names)) == 13
    assert all(row["step_ms"] >= row["quick_ms"] > 0 for row in rows)
    assert {row["peer"] for row in rows[2:]} == {TRAINER}
    by_name = {row["name"]: row["inside_percent"] for row in rows}
    assert by_name["LoggerHook"] > 0  # its calls are found in the Trainer's phases
    assert by_name[LOOP] == 0


def test_other_losses_are_not_timed(tmp_path):
    config = TrainerConfig(**SMALL, hooks=False)
    runs = competitors(config, tmp_path)
    for each in runs.values():
        each.turn()
    check(runs)
    runs[TRAINER].losses[0] += 1e-7
    with pytest.raises(RuntimeError, match="Trainer gives other losses than the loop by hand: nothing was timed"):
        check(runs)
    for each in runs.values():
        each.end()


def test_an_error_of_a_run_is_raised():
    config = TrainerConfig(**SMALL)
    (batch, *_) = data = trainer.batches(config)
    broken = [{**batch, "label": batch["label"][:3]}]
    for loop in (by_hand(config, data), by_trainer(config, data, [])):
        gate = trainer.Gate(broken, 1, loop)
        with pytest.raises(ValueError, match="size"):
            gate.turn()
