"""examples/with_ddp.py trains on one process, and as well on two."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.examples.running import EXAMPLES, printed

SAID = r"(\d) ranks, 40 steps, ([\d,]+) rows, test AUC (0\.\d{4})"


def test_with_ddp(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = re.fullmatch(SAID + "\n", printed("with_ddp.py", monkeypatch, capsys, steps=40, batch_size=128))
    assert found is not None
    assert found[1] == "1"
    assert float(found[3]) > 0.62


@pytest.mark.full
def test_two_processes_end_with_the_same_auc(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = re.search(SAID, printed("with_ddp.py", monkeypatch, capsys, steps=40, batch_size=128))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = [str(EXAMPLES / "with_ddp.py"), "--steps", "40", "--batch-size", "128"]
    done = subprocess.run([*command, *script], capture_output=True, text=True, check=False)
    found = re.search(SAID, done.stdout)
    assert done.returncode == 0, done.stderr
    assert alone is not None
    assert found is not None, done.stdout
    assert found[1] == "2"
    assert float(found[3]) == pytest.approx(float(alone[3]), abs=2e-3)
