"""What `make test-quick` runs touches every room and every backend, and is there."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache

import pytest

from tests import quick
from tests.contract.recorded import STAGES

ROOT = quick.ROOT
BACKENDS = ("torch", "numba", "jax", "pallas")
EVERY_STAGE = "tests/contract/test_every_stage.py::test_every_stage_ran_on_every_backend"


def rooms() -> set[str]:
    return {quick.room_of(str(path.relative_to(ROOT))) for path in (ROOT / "tests").rglob("test_*.py")}


@cache
def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_room_has_one() -> None:
    assert set(quick.known()) == rooms()


def test_every_backend_has_some() -> None:
    tests = [test for test in quick.listed() if "tests/contract/" in test]
    for backend in BACKENDS:
        assert any(f"[{backend}" in test for test in tests), f"no test of the contract runs on {backend}"


def test_stages_are_counted() -> None:
    """A stage that no listed test reaches fails the run itself."""
    assert EVERY_STAGE in quick.listed()
    assert len(STAGES) > 30


def test_each_is_there_and_stands_once() -> None:
    tests = quick.listed()
    assert len(tests) == len(set(tests))
    names = [(test, *test.split("[")[0].split("::")[:2]) for test in tests]
    assert [test for test, path, name in names if name not in functions(path)] == []


@pytest.mark.full
def test_pytest_finds_each() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *quick.listed()],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]


def test_streams_hold_all_and_an_empty_one_is_none() -> None:
    tests = quick.listed()
    assert sorted(test for stream in quick.streams(tests) for test in stream) == sorted(tests)
    assert quick.streams(["tests/io/test_x.py::test"]) == [["tests/io/test_x.py::test"]]


def test_a_room_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert quick.main(["kitchen"]) == 2
    assert "no room kitchen; there are bench, " in capsys.readouterr().err
