"""The blocks of docs/hooks.md run as they stand, one after another, and its table names every hook."""

from pathlib import Path

import recis_core.hooks
from tests.hygiene.blocks import PYTHON, blocks_of

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"


def test_blocks(capsys, monkeypatch):
    monkeypatch.setenv("RECIS_BACKEND", "torch")
    names: dict = {"__name__": "__main__"}
    for kind, code in blocks_of(PAGE):
        if kind == PYTHON:
            exec(compile(code, str(PAGE), "exec"), names)
            assert capsys.readouterr().out.strip(), f"nothing was printed by\n{code}"
    assert len(names["sizes"].sizes) == 1
    assert min(names["sizes"].sizes[0].values()) > 0


def test_the_table_names_every_hook():
    bases = {"Hook", "PeriodicHook"}
    hooks = {name for name in recis_core.hooks.__all__ if name.endswith("Hook")} - bases
    listed = {line.split("`")[1].split("(")[0] for line in PAGE.read_text().splitlines() if line.startswith("| `")}
    assert listed == hooks
