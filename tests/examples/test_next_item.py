"""Of 200 items 10 are 0.05; the most that can be known of these walks is HR@10 of 0.91."""

from __future__ import annotations

import re

import pytest

from tests.examples.running import printed


def test_next_item(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed("next_item.py", monkeypatch, capsys, steps=15)
    found = re.findall(r"^(\w+): 15 steps in \d+\.\d s, HR@10 (0\.\d{3}), NDCG@10 (0\.\d{3})$", text, re.MULTILINE)
    assert [name for name, _, _ in found] == ["SASRec", "HSTU"]
    assert all(float(hr) > 0.25 for _, hr, _ in found)
