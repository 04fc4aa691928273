"""The TorchRec program trains by recis-core; tests/compat/torchrec/beside trains it by TorchRec, too."""

from __future__ import annotations

import re

import pytest

from tests.examples.installed import installed_for_now
from tests.examples.running import printed


def test_it_learns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with installed_for_now("torchrec"):
        text = printed("torchrec_port.py", monkeypatch, capsys, steps=60, batch_size=128)
    found = re.fullmatch(r"60 steps: loss of the first 20 batches (0\.\d{4}), of the last 20 (0\.\d{4})\n", text)
    assert found is not None, text
    assert float(found[1]) == pytest.approx(0.673, abs=0.01)
    assert float(found[2]) == pytest.approx(0.644, abs=0.01)
