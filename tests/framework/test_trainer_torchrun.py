"""A script with a Trainer on two ranks of torchrun: SIGTERM and Ctrl-C end it after one step on both, saved once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recis_core.serialize import open_checkpoint

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys, time
import torch.distributed as dist
from recis_core.framework import Trainer, TrainingArguments
from recis_core.hooks import Hook
from tests.framework.trainers import Clicks, F, batches, optimizers_of

class Slow(Hook):
    def after_step(self, run, result):
        print("step", run.step, flush=True)
        time.sleep(0.02)

dist.init_process_group("gloo")
model = Clicks()
args = TrainingArguments(output_dir=sys.argv[1])
trainer = Trainer(
    model, args, batches(3000), optimizers=optimizers_of(model), loss=F.binary_cross_entropy_with_logits, hooks=[Slow()]
)
try:
    trainer.restore()
    print("from", trainer.step, flush=True)
    trainer.train()
except SystemExit as stop:
    print("status", stop.code, "after", trainer.step, flush=True)
    raise
finally:
    dist.destroy_process_group()
"""


def start(folder: Path) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    head = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(
        [*head, str(script), str(folder / "saved")], env=env, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], number: int, *, terminal: bool) -> list[str]:
    """Lines of both ranks, of a run that gets the signal in its first steps. terminal: all its processes get it, as of a key."""
    assert process.stdout is not None
    lines = []
    while not any(line.startswith("step 3") for line in lines):
        line = process.stdout.readline()
        assert line, process.communicate()[1][-3000:]
        lines.append(line.strip())
    if terminal:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=200)
    assert process.returncode != 0
    assert "Warning" not in err
    return [*lines, *out.splitlines()]


@pytest.mark.full
@pytest.mark.parametrize(
    ("number", "terminal", "status"),
    [(signal.SIGTERM, False, 143), (signal.SIGINT, False, 130), (signal.SIGINT, True, 130)],
    ids=["SIGTERM to torchrun", "SIGINT to torchrun", "Ctrl-C in its terminal"],
)
def test_both_ranks_end_after_one_step_which_is_saved(tmp_path: Path, number: int, terminal: bool, status: int) -> None:
    lines = ended(start(tmp_path), number, terminal=terminal)
    last = {line for line in lines if line.startswith("status")}
    assert len(last) == 1, lines
    (said,) = last
    assert [line for line in lines if line.startswith("status")] == [said] * 2
    step = open_checkpoint(tmp_path / "saved").step
    assert said == f"status {status} after {step}"
    again = ended(start(tmp_path), number, terminal=terminal) if not terminal else [f"from {step}"]
    assert f"from {step}" in again
