"""examples/llm_fsdp2.py learns what users take next, goes on from its checkpoint, and does so with LoRA in bfloat16."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.running import EXAMPLES, printed

SAID = r"(\d+) steps, [\d,]+ items predicted, \d+ rows, HR@3 (0\.\d{3}), by chance 0\.060"


def figures(text: str) -> tuple[int, float]:
    found = re.search(rf"^{SAID}$", text, re.MULTILINE)
    assert found is not None, text
    return int(found[1]), float(found[2])


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_llm_fsdp2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = printed("llm_fsdp2.py", monkeypatch, capsys, steps=14, batch_size=16, directory=tmp_path)
    steps, hits = figures(text)
    assert steps == 14
    assert hits > 0.15
    text = printed("llm_fsdp2.py", monkeypatch, capsys, steps=15, batch_size=16, directory=tmp_path)
    assert figures(text)[0] == 15
    assert "step 10" not in text


@pytest.mark.full
def test_two_processes_with_lora_in_bfloat16(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = [str(EXAMPLES / "llm_fsdp2.py"), "--steps", "40", "--bf16", "--lora", "--directory", str(tmp_path)]
    done = subprocess.run([*command, *script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert figures(done.stdout)[1] > 0.3
