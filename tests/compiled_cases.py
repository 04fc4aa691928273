"""A case that compiles runs on jax or on pallas, which run the same programs but for their loops; on both in full.

In tests/contract pallas takes every third case of a test, jax the others, both the first. Elsewhere the name of a test decides,
for all its cases. torch and numba run all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

COMPILED = ("jax", "pallas")
# Rooms whose tests hold one backend against another, or count what it compiles.
WHOLE = ("kernels", "parity", "resources", "trips")


def left_to_the_other(items: Iterable[Any]) -> Iterator[Any]:
    """Those of a plain run whose case the other of the two runs."""
    for test, cases in tests_of(items).items():
        both = [pair for pair in cases.values() if len(pair) == 2]
        if test.startswith("tests/contract/"):
            yield from (pair["jax"] for pair in both[1:])
        else:
            yield from (pair[COMPILED[crc32(test.encode()) % 2]] for pair in both)


def tests_of(items: Iterable[Any]) -> dict[str, dict[tuple[str, ...], dict[str, Any]]]:
    """Of each test {case: {backend: item}}, those that full runs alone left out."""
    found: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {}
    for item in items:
        backend = backend_of(item)
        if backend in COMPILED and item.path.parent.name not in WHOLE and not item.get_closest_marker("full"):
            test, words = item.nodeid.split("[", 1)
            case = tuple(word for word in words.rstrip("]").split("-") if word != backend)
            found.setdefault(test, {}).setdefault(case, {})[backend] = item
    return found


def backend_of(item: Any) -> str | None:
    """The name that its fixture of backends was given."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return next((params[name] for name in ("backend", "eager_backend") if isinstance(params.get(name), str)), None)
