"""docs/architecture.md and docs/placement.md: files that they name are there, and packages import what the page says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LIBRARY = ROOT / "recis_core"
HOMES = (ROOT, LIBRARY, ROOT / "backends")
FOLDERS = ("backends", "bench", "bridge", "docs", "pallas_kernels", "recis_core", "tests")
OTHER_FLOORS = {"backends", "bench", "bridge", "pallas_kernels"}


@pytest.mark.parametrize("page", ["architecture.md", "placement.md"])
def test_files_are_there(page: str) -> None:
    text = (DOCS / page).read_text()
    assert len(text.splitlines()) < 180
    named = set(re.findall(r"`([\w/]+\.(?:py|md|toml))`", text))
    assert len(named) > 20
    assert {name for name in named if not is_there(name)} == set()


def is_there(name: str) -> bool:
    """A path from one of the homes; of a name alone any file that is called so."""
    if any((home / name).is_file() for home in HOMES):
        return True
    return "/" not in name and any(True for folder in FOLDERS for _ in (ROOT / folder).rglob(name))


def test_a_file_that_is_gone_is_seen() -> None:
    assert is_there("nn/call_plan.py")
    assert is_there("place.py")
    assert not is_there("nn/place.py")
    assert not is_there("no_such_file.py")


def test_packages_import_what_the_page_says() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| ?(.*) \|$", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    told = {package: set(filter(None, imports.split(", "))) for package, imports in rows}
    assert told == {package: imports_of(package) & told.keys() for package in packages()}


def packages() -> set[str]:
    return {path.parent.name for path in LIBRARY.glob("*/__init__.py")} - OTHER_FLOORS


def imports_of(package: str) -> set[str]:
    """Packages of recis_core that this one imports, inside functions too; not for types alone."""
    files = (LIBRARY / package).rglob("*.py")
    found = {name for file in files for name in imported(ast.parse(file.read_text()))}
    return found - {package}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "recis_core":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recis_core."):
            yield node.module.split(".")[1]  # type: ignore[union-attr]
        yield from imported(node)
