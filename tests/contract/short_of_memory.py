"""python -m tests.contract.short_of_memory BACKEND KIND: a table that grows under a limit of memory, until it cannot.

Each step is tried; one that is refused leaves the table as its twin is, which was not asked. Then the limit goes, and both
take the same steps. KIND: data or address, the limit.
"""

from __future__ import annotations

import resource
import sys
from typing import Any

import torch

from recis_core import backends
from recis_core.backends import Backend, Clock, LookupMode, SlotSpec, TableSpec, UpdateRule
from recis_core.backends.initial_values import Distribution
from tests.contract.lived_in import HYPER, content

IDS, ROOM = 20_000, 24 << 20
SLOTS = (SlotSpec("m", 48), SlotSpec("v", 48))
LIMITS = {"data": (resource.RLIMIT_DATA, 5), "address": (resource.RLIMIT_AS, 0)}


def table(backend: Backend) -> Any:
    spec = TableSpec(48, (1,), distribution=Distribution("uniform", -1.0, 1.0), rows=1024)
    return backend.add_slots(backend.create(spec), SLOTS)


def find_or_insert(backend: Backend, state: Any, k: int) -> None:
    ids, tables = keys_of(k)
    backend.lookup(state, ids, tables, mode=LookupMode(), clock=Clock(k, k))


def train(backend: Backend, state: Any, k: int) -> None:
    ids, tables = keys_of(k)
    still = LookupMode(insert=False, touch=False)
    _, rows, _ = backend.lookup(state, ids, tables, mode=still, clock=Clock(k, k))
    gradient = backend.gradient(state, ids, tables, rows, torch.ones(IDS, 48))
    backend.update(state, gradient, UpdateRule("adam", ("m", "v")), hyper=HYPER[:1], factor=1.0, t=(k + 1,))


def keys_of(k: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(IDS) + k * (IDS - 100), torch.zeros(IDS, dtype=torch.int32)


def limited(kind: str, room: int) -> None:
    limit, column = LIMITS[kind]
    with open("/proc/self/statm") as pages:
        used = int(pages.read().split()[column]) * resource.getpagesize()
    resource.setrlimit(limit, (used + room, resource.RLIM_INFINITY))


def free(kind: str) -> None:
    resource.setrlimit(LIMITS[kind][0], (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def refused(kind: str, backend: Backend, stage: Any, state: Any, k: int) -> bool:
    limited(kind, ROOM)
    try:
        stage(backend, state, k)
    except MemoryError:
        return True
    finally:
        free(kind)
    return False


def main(name: str, kind: str) -> None:
    backend = backends.get(name)
    tried, twin = table(backend), table(backend)
    times = 0
    for k in range(9):
        for stage in (find_or_insert, train):
            if k and refused(kind, backend, stage, tried, k):  # at k = 0 loops are compiled
                times += 1
                if content(backend, tried) != content(backend, twin):
                    raise SystemExit(f"{stage.__name__} {k} was refused and left the table changed")
                stage(backend, tried, k)
            elif k == 0:
                stage(backend, tried, k)
            stage(backend, twin, k)
            if content(backend, tried) != content(backend, twin):
                raise SystemExit(f"after {stage.__name__} {k} the table is another")
    print(f"refused {times} times; {backend.counters(tried).rows} rows")


if __name__ == "__main__":
    main(*sys.argv[1:])
