"""A piece of work, ways to do it, and whether their answers agree."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch

from recis_core.features.op import Op
from recis_core.ragged import RaggedTensor

LOOPS, TORCH = "recis loops", "recis torch"


@dataclass(frozen=True)
class Case:
    """run: by name, the ways to do it; the same answer as ours from each, but for those in `differs`.

    differs: ways with another answer of the same form, such as another hash. bytes: of the input.
    """

    name: str
    rows: int
    bytes: int
    run: Mapping[str, Callable[[], Any]]
    differs: frozenset[str] = field(default_factory=frozenset)


def ours(op: Op, value: Any) -> dict[str, Callable[[], Any]]:
    return {LOOPS: lambda: op(value), TORCH: lambda: in_plain_torch(lambda: op(value))}


def in_plain_torch(run: Callable[[], Any]) -> Any:
    with mock.patch.dict(os.environ, RECIS_BACKEND="torch"):
        return run()


def check(case: Case) -> None:
    """Raises ValueError unless all ways give one answer; with others, one as long."""
    answers = {name: plain(run()) for name, run in case.run.items()}
    wanted = answers[LOOPS]
    for name, answer in answers.items():
        same = len(answer) == len(wanted) and all(map(_as_long if name in case.differs else _equal, answer, wanted))
        if not same:
            raise ValueError(f"{case.name}: {name} gives another answer than {LOOPS}: {answer} and {wanted}.")


def plain(value: Any) -> list[np.ndarray[Any, Any]]:
    """The arrays of an answer."""
    if isinstance(value, RaggedTensor):
        return [value.values().numpy(), value.offsets()[-1].numpy()]
    if isinstance(value, torch.Tensor):
        return [value.numpy()]
    if isinstance(value, dict | list):
        return [array for item in (value.values() if isinstance(value, dict) else value) for array in plain(item)]
    return [np.asarray(value)]


def _equal(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        return bool(np.allclose(a, b, rtol=1e-6, equal_nan=True))
    return bool(np.array_equal(a, b))


def _as_long(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return len(a) == len(b)


def timed(case: Case, repeats: int) -> list[dict[str, Any]]:
    """A row for each way: median and least seconds over turns, which alternate; and times the speed of the fastest peer.

    CPU time of all threads says more than wall time where other processes take the cores.
    """
    times: dict[str, list[float]] = {name: [] for name in case.run}
    cpu: dict[str, list[float]] = {name: [] for name in case.run}
    for _ in range(repeats):
        for name, run in case.run.items():
            start, used = time.perf_counter(), time.process_time()
            run()
            cpu[name].append(time.process_time() - used)
            times[name].append(time.perf_counter() - start)
    middle = {name: statistics.median(taken) for name, taken in times.items()}
    peers = [seconds for name, seconds in middle.items() if name not in (LOOPS, TORCH)]
    best = min(peers, default=None)
    return [_row(case, name, middle[name], min(times[name]), statistics.median(cpu[name]), best) for name in case.run]


def _row(case: Case, name: str, seconds: float, least: float, cpu: float, peer: float | None) -> dict[str, Any]:
    return {
        "case": case.name,
        "name": name,
        "ms": 1e3 * seconds,
        "least_ms": 1e3 * least,
        "cpu_ms": 1e3 * cpu,
        "rows": case.rows,
        "Mrows/s": case.rows / seconds / 1e6,
        "GB/s": case.bytes / seconds / 1e9,
        "speedup": None if peer is None else peer / seconds,
        "answer": "another of this form" if name in case.differs else "the same",
    }
