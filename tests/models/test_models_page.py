"""docs/models.md: its Python blocks run one after another."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hygiene.blocks import PYTHON, ROOT, blocks_of


def test_blocks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECIS_BACKEND", "torch")
    blocks, space = blocks_of(ROOT / "docs" / "models.md"), dict[str, Any]()
    assert [kind for kind, _ in blocks] == [PYTHON] * 3
    for _, code in blocks:
        exec(code, space)
    assert capsys.readouterr().out.splitlines() == ["['buy', 'buy_auc', 'click', 'loss']", "True"]
    hook = space["KeepSampler"]()
    assert hook.state_dict()["draws"] == 50
    hook.load_state_dict(hook.state_dict())
