"""The blocks of docs/llm.md run as they stand, one after another; the one for many GPUs asks for torchrun."""

from pathlib import Path

import pytest

from recis_core.errors import RecisError
from tests.hygiene.blocks import PYTHON, blocks_of

PAGE = Path(__file__).parents[2] / "docs" / "llm.md"


def test_blocks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECIS_BACKEND", "torch")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__main__"}
    printed = []
    for kind, code in blocks_of(PAGE):
        if kind != PYTHON:
            continue
        program = compile(code, str(PAGE), "exec")
        if "shard_decoder(model" in code:
            with pytest.raises(RecisError, match="torchrun"):
                exec(program, names)
        else:
            exec(program, names)
            printed.append(capsys.readouterr().out)
    assert printed[0].startswith("tensor([  5,   9, 100,  40,  41,   7, 101, 101, 101])\n{'item': tensor(")
    assert printed[1] == "torch.Size([2, 3])\n"
    assert int(printed[2]) > 0
    assert names["trainer"].step == 4
