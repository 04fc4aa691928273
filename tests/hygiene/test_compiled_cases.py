"""What a plain run leaves to the other of jax and pallas: every case still runs on one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.compiled_cases import left_to_the_other

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


def left(file: str, tests: int = 1, cases: int = 1, **marks: set[str]) -> list[tuple[str, str, str]]:
    items = [
        Case(file, f"test_{t}", f"c{c}", backend, marks.get(f"{backend}_{c}", set()))
        for t in range(tests)
        for backend in BACKENDS
        for c in range(cases)
    ]
    return [(item.test, item.case, item.backend) for item in left_to_the_other(items)]


def test_in_the_contract_jax_leaves_what_pallas_runs_but_the_first() -> None:
    full = {f"pallas_{c}": {"full"} for c in (1, 2, 4, 5)}
    assert left("tests/contract/test_x.py", cases=7, **full) == [("test_0", "c3", "jax"), ("test_0", "c6", "jax")]


def test_elsewhere_all_cases_of_a_test_run_on_one_of_them() -> None:
    found = left("tests/nn/test_x.py", tests=20, cases=2)
    assert len(found) == len({(test, case) for test, case, _ in found}) == 40
    assert all((test, "c0", backend) in found for test, _, backend in found)
    assert {backend for _, _, backend in found} == {"jax", "pallas"}


def test_a_case_that_one_of_them_has_alone_stays() -> None:
    assert left("tests/nn/test_x.py", **{"pallas_0": {"full"}}) == []


def test_rooms_that_compare_backends_run_both() -> None:
    assert left("tests/parity/test_x.py", tests=5) == left("tests/resources/test_x.py", tests=5) == []
