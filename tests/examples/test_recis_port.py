"""The RecIS program trains, saves, and trains on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.running import printed


def test_it_learns_and_leaves_checkpoints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = printed("recis_port.py", monkeypatch, capsys, rows=1800, directory=tmp_path)
    found = re.search(
        r"^30 steps: loss of the first 20 batches (0\.\d{4}), of the last 20 (0\.\d{4})$", text, re.MULTILINE
    )
    assert found is not None, text
    assert float(found[2]) < float(found[1]) - 0.01
    assert (tmp_path / "checkpoints" / "checkpoint").read_text().split()[-1] == "ckpt_30"
