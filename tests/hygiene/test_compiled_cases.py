"""What a plain run compiles: of each test every fourth case, in turn on jax and on pallas."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.compiled_cases import COMPILED, left_to_full_runs

BACKENDS = ("torch", "numba", "jax", "pallas")


@dataclass
class Case:
    """As pytest's items are."""

    file: str
    test: str
    case: str
    backend: str
    marks: set[str] = field(default_factory=set)

    @property
    def nodeid(self) -> str:
        return f"{self.file}::{self.test}[{self.backend}-{self.case}]"

    @property
    def path(self) -> Path:
        return Path(self.file)

    @property
    def callspec(self) -> Any:
        return SimpleNamespace(params={"backend": self.backend})

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


def compiled(file: str, tests: int = 1, cases: int = 1, **marks: set[str]) -> dict[str, list[tuple[str, str]]]:
    """Of each test the (case, backend) that a plain run compiles."""
    items = [
        Case(file, f"test_{t}", f"c{c}", backend, marks.get(f"{backend}_{c}", set()))
        for t in range(tests)
        for backend in BACKENDS
        for c in range(cases)
    ]
    gone = [id(item) for item in left_to_full_runs(items)]
    assert len(gone) == len(set(gone))
    found: dict[str, list[tuple[str, str]]] = {f"test_{t}": [] for t in range(tests)}
    for item in items:
        if item.backend in COMPILED and not item.marks and id(item) not in gone:
            found[item.test].append((item.case, item.backend))
    assert not any(item.backend not in COMPILED for item in items if id(item) in gone)
    return found


def test_every_fourth_case_in_turn_on_one_and_on_the_other() -> None:
    found = compiled("tests/contract/test_x.py", tests=20, cases=12)
    for kept in found.values():
        backends = [backend for _, backend in sorted(kept, key=lambda each: int(each[0][1:]))]
        assert len(kept) == 3
        assert all(a != b for a, b in pairwise(backends))
    assert len({kept[0] for kept in found.values()}) > 3, "all tests begin at one case"


def test_a_test_of_few_cases_compiles_one_of_them() -> None:
    for cases in (1, 2, 3, 4):
        found = compiled("tests/nn/test_x.py", tests=20, cases=cases)
        assert {len(kept) for kept in found.values()} == {1}
        assert {backend for kept in found.values() for _, backend in kept} == {"jax", "pallas"}


def test_a_case_that_one_of_them_has_alone_runs_there() -> None:
    found = compiled("tests/nn/test_x.py", tests=8, **{"pallas_0": {"full"}})
    assert all(kept == [("c0", "jax")] for kept in found.values())


def test_rooms_that_compare_backends_run_both() -> None:
    for room in ("parity", "resources"):
        kept = compiled(f"tests/{room}/test_x.py", tests=5)
        assert all(sorted(each) == [("c0", "jax"), ("c0", "pallas")] for each in kept.values())
