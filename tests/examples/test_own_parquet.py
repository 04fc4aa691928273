"""A model of one's own on files of one's own: trained, evaluated, saved."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recis_core.serialize import open_checkpoint
from tests.examples.running import printed


def test_own_parquet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = printed("own_parquet.py", monkeypatch, capsys, output=tmp_path / "saved", batch_size=256)
    found = re.search(
        r"^79 steps, AUC (0\.\d{4}), rows \{'user': 200, 'item': 100, 'tags': 50\}, saved in", text, re.MULTILINE
    )
    assert found is not None, text
    assert float(found[1]) > 0.72
    assert set(open_checkpoint(tmp_path / "saved").tables) == {"user", "item", "tags"}
