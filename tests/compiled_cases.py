"""What a plain run compiles: a case on jax or on pallas, which run the same programs but for their loops; full runs take all.

Of a test that takes `backend` every fourth case compiles, in turn on one and on the other; its cases on torch and numba stay.
Cases that are marked `full` already are passed over, and a test that takes `eager_backend` compiles nothing. Where a test begins
depends on its name alone, so that each run has the same cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

COMPILED = ("jax", "pallas")
EVERY = 4
# The only tests of a stage; what they compile runs on both, for tests/contract/test_every_stage.py counts.
ON_BOTH = (
    "test_export.py::test_programs",
    "test_export_later.py::test_parts_are_the_whole_without_placement",
    "test_gradient.py::test_without_some_keys",
    "test_partition.py::test_partition",
    "test_rows.py::test_a_gradient_goes_where_its_rows_are_now",
)
# Rooms whose tests hold one backend against another, or count what it compiles.
WHOLE = ("kernels", "parity", "resources", "trips")


def left_to_full_runs(items: Iterable[Any]) -> Iterator[Any]:
    """Cases that a plain run does not compile."""
    for test, cases in cases_of(items).items():
        turn = crc32(test.encode())
        for number, case in enumerate(cases):
            kept = (
                kept_of(test, case, turn + number // EVERY) if number % EVERY == turn % min(EVERY, len(cases)) else ()
            )
            yield from (item for backend, item in case.items() if backend not in kept)


def kept_of(test: str, case: dict[str, Any], turn: int) -> tuple[str, ...]:
    """The backend whose turn it is; the other if that one has no such case."""
    wanted = COMPILED[turn % 2]
    return COMPILED if test.endswith(ON_BOTH) else (wanted,) if wanted in case else (next(iter(case)),)


def cases_of(items: Iterable[Any]) -> dict[str, list[dict[str, Any]]]:
    """Of each test its cases {backend: item}, in order, those that full runs alone left out."""
    found: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {}
    for item in items:
        backend = backend_of(item)
        if backend in COMPILED and item.path.parent.name not in WHOLE and not item.get_closest_marker("full"):
            test, words = item.nodeid.split("[", 1)
            case = tuple(word for word in words.rstrip("]").split("-") if word != backend)
            found.setdefault(test, {}).setdefault(case, {})[backend] = item
    return {test: list(cases.values()) for test, cases in found.items()}


def backend_of(item: Any) -> str | None:
    """The name that its fixture of backends was given."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    names = ("backend", "eager_backend", "compiled_backend")
    return next((params[name] for name in names if isinstance(params.get(name), str)), None)
