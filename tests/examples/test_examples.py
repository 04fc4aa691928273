"""Each example runs as a program of its own would, and learns something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.running import EXAMPLES, printed


def test_every_example_is_run_by_a_test() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    examples = {path.name for path in EXAMPLES.glob("*.py")}
    assert "first_run.py" in examples
    assert {name for name in examples if f'"{name}"' not in tests} == set()


def test_first_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """And the same command with more steps goes on."""
    text = printed("first_run.py", monkeypatch, capsys, steps=40, batch_size=64, directory=tmp_path)
    evaluations = [float(auc) for auc in re.findall(r"step \d+  evaluation  loss 0\.\d{4}  auc (0\.\d{4})", text)]
    assert len(evaluations) == 4
    assert evaluations[-1] > 0.55
    assert re.search(r"^40 steps, 2,560 rows in \d+\.\d s: [\d,]+ rows/s", text, re.MULTILINE)
    assert "dense forward" in text
    text = printed("first_run.py", monkeypatch, capsys, steps=41, batch_size=64, directory=tmp_path)
    assert "\n1 steps, 64 rows in " in text


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # Lightning's own, of torch and of data loaders
def test_lightning(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed("with_lightning.py", monkeypatch, capsys, steps=40, batch_size=128)
    found = re.fullmatch(r"20 \+ 20 steps, lr 0\.0010, ([\d,]+) rows, test AUC (0\.\d{4})\n", text.splitlines(True)[-1])
    assert found is not None, text
    assert float(found[2]) > 0.58


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # Accelerate's own
def test_accelerate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed("with_accelerate.py", monkeypatch, capsys, steps=40, batch_size=128)
    found = re.fullmatch(
        r"20 \+ 20 batches, lr 0\.0010, ([\d,]+) rows, test AUC (0\.\d{4})\n", text.splitlines(True)[-1]
    )
    assert found is not None, text
    assert float(found[2]) > 0.58
