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
EXCEPTIONS = 1  # imports of today from a lower floor to a higher one; lower it with each that goes


def floors() -> dict[str, Any]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    found = [contract for contract in settings["contracts"] if contract["type"] == "layers"]
    assert len(found) == 1
    return dict(found[0])


def floor_of(module: str) -> int:
    """Its number from the top."""
    name = module.split(".")[1]
    return next(n for n, layer in enumerate(floors()["layers"]) if name in layer.split(" | "))


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)


def test_exceptions_are_few_and_each_is_one_import_upward() -> None:
    ignored = floors()["ignore_imports"]
    assert len(ignored) == len(set(ignored)) == EXCEPTIONS, "a new import upward? Turn it round; EXCEPTIONS only falls."
    for line in ignored:
        importer, imported = line.split(" -> ")
        assert "*" not in line, f"name one import, no wildcard: {line}"
        assert floor_of(importer) > floor_of(imported), f"needs no exception: {line}"


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
