"""The blocks of docs/checkpoints.md run as they stand, one after another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hygiene.blocks import PYTHON, blocks_of

PAGE = Path(__file__).parents[3] / "docs" / "checkpoints.md"


def test_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECIS_BACKEND", "numba")
    names: dict = {"__name__": "__main__"}
    said = []
    for code in [code for kind, code in blocks_of(PAGE) if kind == PYTHON]:
        exec(compile(code, str(PAGE), "exec"), names)
        said.append(capsys.readouterr().out.split())
    assert said[0][-2] == "7"
    assert said[1][0] == "7"
    assert said[2] == ["7", "delta", "56"]
    assert "optimizer/sparse" in names["restored"].missing
