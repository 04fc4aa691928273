"""Days one after another; a second start goes on where the first ended, with the same figures as one run of all days."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.running import printed

LINE = r"^day (\d+): AUC of the next day (0\.\d{4}), ([\d,]+) items, ([\d,]+) expired, a (\w+) checkpoint$"


def test_daily(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def lines(days: int, folder: str) -> list[tuple[str, ...]]:
        small = {"rows": 3_000, "batch_size": 128, "expire": 30, "directory": tmp_path / folder}
        return re.findall(LINE, printed("daily.py", monkeypatch, capsys, days=days, **small), re.MULTILINE)

    whole = lines(3, "whole")
    assert [line[0] for line in whole] == ["1", "2", "3"]
    assert [line[4] for line in whole] == ["full", "delta", "delta"]
    assert int(whole[1][3]) > 0
    assert float(whole[2][1]) > 0.65
    parts = lines(1, "parts") + lines(3, "parts")
    assert [line[:4] for line in parts] == [line[:4] for line in whole]
    assert [line[4] for line in parts] == ["full", "full", "delta"]  # the first of a start is full
