"""Runs an example as its command line does, in this process."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def printed(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **arguments: object) -> str:
    """What `python examples/name --key value …` prints, on the torch backend."""
    words = [word for key, value in arguments.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    monkeypatch.setattr(sys, "argv", [name, *words])
    monkeypatch.setenv("RECIS_BACKEND", "torch")
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out
