"""What make test-full alone runs, by tests/left_to_full.txt."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".txt")


def listed() -> dict[str, str]:
    """{node id: the test that shows the same in a plain run}"""
    lines = [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    return {test: shown for test, _, shown in (line.partition("  by ") for line in lines)}


def left_to_full(items: Iterable[Any]) -> list[Any]:
    """Those of the list among these."""
    tests = listed()
    return [item for item in items if item.nodeid in tests]


def gone(items: Iterable[Any]) -> list[str]:
    """Lines whose file was collected, and holds no such test."""
    found = {item.nodeid for item in items}
    files = {test.split("::")[0] for test in found}
    return [test for test in listed() if test not in found and test.split("::")[0] in files]
