"""Inlined steps of numba kernels count no references: one that handed back an array would free its caller's."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

BACKENDS = Path(__file__).parents[2] / "backends"
KERNELS = tuple(BACKENDS / name for name in ("column_loops", "feature_loops", "numba_backend", "tier_loops"))
EMPTY = "@inlined\ndef step(rows, row):\n    "


def array_returns(source: str) -> Iterator[str]:
    """Of inlined functions, what may be an array: a parameter or a slice of one. Making arrays does not compile."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(d) == "inlined" for d in node.decorator_list):
            yield from (f"{node.name}: {text}" for text in _returned(node))


def _returned(function: ast.FunctionDef) -> Iterator[str]:
    subscripted = {ast.unparse(n.value) for n in ast.walk(function) if isinstance(n, ast.Subscript)}
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            sliced = any(isinstance(n, ast.Slice) for n in ast.walk(node.value))
            if sliced or ast.unparse(node.value) in subscripted:
                yield ast.unparse(node.value)


def test_inlined_steps_hand_back_no_array() -> None:
    sources = {path.name: path.read_text() for folder in KERNELS for path in folder.glob("*.py")}
    assert sum(source.count("@inlined") for source in sources.values()) > 50
    assert [found for source in sources.values() for found in array_returns(source)] == []


@pytest.mark.parametrize("body", ["return rows[row:]", "rows[row] = 0\n    return rows"])
def test_that_test(body: str) -> None:
    assert list(array_returns(EMPTY + body)) == [f"step: {body.split('return ')[1]}"]
    assert list(array_returns(EMPTY + "return rows[row]")) == []
