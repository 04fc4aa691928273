"""Imports inside recis_core point one way: its floors stand in pyproject.toml, and lint-imports watches them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDERS = ("recis_core", "backends", "bench", "bridge", "pallas_kernels")


def floors() -> dict[str, Any]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    found = [contract for contract in settings["contracts"] if contract["type"] == "layers"]
    assert len(found) == 1
    return dict(found[0])


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)


def test_no_import_upward_is_excepted() -> None:
    assert "ignore_imports" not in floors(), "an import upward? Turn it round."


def test_a_new_import_upward_fails(tmp_path: Path) -> None:
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.md")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    done = lint(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(tmp_path / "recis_core/ragged/dense.py", "a") as file:
        file.write("\nfrom recis_core.nn import coalesce\n")
    done = lint(tmp_path)
    assert done.returncode == 1
    assert "recis_core.ragged.dense -> recis_core.nn.coalesce" in done.stdout
