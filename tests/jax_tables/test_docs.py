"""The blocks of docs/jax.md run as they stand, one after another, and the page names every function."""

import re
from pathlib import Path

import pytest

import recis_core.jax
from tests.hygiene.blocks import PYTHON, blocks_of

PAGE = Path(__file__).parents[2] / "docs" / "jax.md"


@pytest.mark.full
def test_blocks(capsys, monkeypatch):
    monkeypatch.setenv("RECIS_BACKEND", "torch")
    names: dict = {"__name__": "__main__"}
    for kind, code in blocks_of(PAGE):
        if kind == PYTHON:
            exec(compile(code, str(PAGE), "exec"), names)
            assert capsys.readouterr().out.strip(), f"nothing was printed by\n{code}"
    assert float(names["loss"]) < 1
    assert names["optimizer"].state_dict()["t"] == {"item": 2}


def test_every_function_is_named():
    named = set(re.findall(r"\w+", PAGE.read_text()))
    assert set(recis_core.jax.__all__) - named == {"Rule", "TableState", "Ticket", "Counts"}  # what they return
