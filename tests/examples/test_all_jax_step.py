"""examples/all_jax_step.py learns, compiles its step once, and moves its tables into torch."""

from __future__ import annotations

import re

import pytest

from tests.examples.running import printed


@pytest.mark.full
def test_all_jax_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed("all_jax_step.py", monkeypatch, capsys, steps=60, batch_size=128)
    assert "the same rows in torch: True; the step was compiled 1 times\n" in text
    found = re.fullmatch(
        r"60 steps, loss (0\.\d{4}) to (0\.\d{4}), ([\d,]+) rows, test AUC (0\.\d{4})\n", text.splitlines(True)[-1]
    )
    assert found is not None, text
    assert float(found[2]) < float(found[1])
    assert float(found[4]) > 0.58
