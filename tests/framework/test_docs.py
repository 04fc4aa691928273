"""The blocks of docs/trainer.md run as they stand, one after another, and its table names every argument."""

from dataclasses import fields
from pathlib import Path

from recis_core.framework import TrainingArguments
from tests.hygiene.blocks import PYTHON, blocks_of

PAGE = Path(__file__).parents[2] / "docs" / "trainer.md"


def test_blocks(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RECIS_BACKEND", "torch")
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__main__"}
    for kind, code in blocks_of(PAGE):
        if kind == PYTHON:
            exec(compile(code, str(PAGE), "exec"), names)
            assert capsys.readouterr().out.strip(), f"nothing was printed by\n{code}"
    names["trainer"].restore()
    assert names["trainer"].step == 54
    assert names["daily"].window == 2


def test_the_table_names_every_argument():
    lines = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    listed = {name.strip(" `") for line in lines for name in line.split(",")}
    assert listed >= {f.name for f in fields(TrainingArguments)}
