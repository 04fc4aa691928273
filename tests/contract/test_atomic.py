"""A stage happens whole or not at all, wherever it breaks off: torch and numba, which write in place.

Each stage runs on copies of a table with a history. At its k-th line, its k-th tensor operation and its k-th array it gets an
error; then the table is as before (or, at a line behind the change, as after), and goes on as its twin does.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from recis_core import backends
from recis_core.backends import Backend
from recis_core.backends.whole import Undo, Writes
from tests.contract.faults import fails_at, places
from tests.contract.lived_in import KINDS, STAGES, Content, Stage, attempt, content, emptied_and_placed, lived_in, twin

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
IN_PLACE = ("torch", "numba")
WAYS = {"torch": ("line", "operation"), "numba": ("line", "array")}
EACH, SOME, FEW = 1 << 40, 40, 4  # places of each way that a stage is tried at
KIND_OF = ("grows", "bfloat16", "evicts", "bounded")
REDUCED = {
    *(("grows", stage) for stage in STAGES),
    *(("evicts", stage) for stage in ("new_and_known", "embed")),
    *(("bfloat16", stage) for stage in ("update", "write_rows")),
    ("bounded", "many_new"),  # ends in TableFull
}
CASES = [(kind, stage) for kind in KIND_OF for stage in STAGES if FULL or (kind, stage) in REDUCED]


def _sweep(backend: Backend, way: str, state: Any, stage: Stage, most: int) -> int:
    """The stage breaks off at each place of a copy, or at so many of them, spread; how many."""
    attempt(stage(backend, twin(state)))  # loops are compiled, caches filled
    after = twin(state)
    call = stage(backend, after)
    total = places(way, lambda: attempt(call))
    wanted = content(backend, state), content(backend, after)
    chosen = np.unique(np.linspace(1, total, min(total, most)).astype(int)) if total else []
    for k in chosen:
        _break_off(backend, way, int(k), twin(state), stage, wanted)
    return len(chosen)


def _break_off(backend: Backend, way: str, k: int, state: Any, stage: Stage, wanted: tuple[Content, Content]) -> None:
    call = stage(backend, state)
    assert fails_at(way, k, lambda: attempt(call))
    seen = content(backend, state)
    happened = way == "line" and seen == wanted[1]
    assert happened or seen == wanted[0], f"at {way} {k}"
    if not happened:
        attempt(stage(backend, state))
        assert content(backend, state) == wanted[1], f"the call again, after {way} {k}"


@pytest.mark.parametrize(("kind", "stage"), CASES)
@pytest.mark.parametrize("name", IN_PLACE)
def test_at_each_place(name: str, kind: str, stage: str) -> None:
    backend = backends.get(name)
    state = lived_in(backend, kind)
    most = FEW if not FULL else EACH if (kind, stage) in REDUCED else SOME
    assert sum(_sweep(backend, way, state, STAGES[stage], most) for way in WAYS[name])


@pytest.mark.parametrize("kind", KIND_OF if FULL else ("grows", "evicts"))
@pytest.mark.parametrize("name", IN_PLACE)
def test_a_placed_snapshot(name: str, kind: str) -> None:
    backend = backends.get(name)
    state, stage = emptied_and_placed(backend, kind)
    for way in WAYS[name]:
        assert _sweep(backend, way, state, stage, EACH if FULL else FEW)


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_is_not_taken_back_is_so_by_the_next_stage(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may be short while a change is taken back, too."""
    backend = backends.get(name)
    state = lived_in(backend, "grows")
    before, after = content(backend, state), {}
    for stage in ("many_new", "erase_crowd", "restore"):
        done = twin(state)
        STAGES[stage](backend, done)()
        after[stage] = content(backend, done)
    for stage in after:
        for k in range(5, 80, 1 if FULL else 15):
            tried = twin(state)
            _twice(monkeypatch, Undo)
            failed = fails_at("line", k, STAGES[stage](backend, tried))
            monkeypatch.undo()
            assert content(backend, tried) in (before, after[stage]), f"{stage}, line {k}"
            if not failed:  # the stage has fewer lines
                assert k > 5
                break


def _twice(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    """The first try to settle breaks off half-way."""
    whole, tries = kind.run, []

    def run(self: Any, state: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            self._writes[len(self._writes) // 2 :] and whole(_half(self, kind), state)
            raise MemoryError("while it is taken back")
        whole(self, state)

    monkeypatch.setattr(kind, "run", run)


def _half(undo: Any, kind: type) -> Any:
    """Only the later half of what it wrote."""
    half = object.__new__(kind)
    for name in kind.__slots__:
        setattr(half, name, getattr(undo, name))
    half._writes = undo._writes[len(undo._writes) // 2 :]
    return half


def test_rows_written_in_part_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba overwrites rows without a copy of them: weights are there, slots are not; the next stage writes them."""
    backend = backends.get("numba")
    state = lived_in(backend, "grows")
    after = twin(state)
    STAGES["write_rows"](backend, after)()
    whole = Writes.run

    def run(self: Writes, state: Any) -> None:
        write, args = self._writes[0]
        write(*args)
        monkeypatch.setattr(Writes, "run", whole)
        raise MemoryError

    monkeypatch.setattr(Writes, "run", run)
    with pytest.raises(MemoryError):
        STAGES["write_rows"](backend, state)()
    assert content(backend, state) == content(backend, after)


@pytest.mark.parametrize("name", IN_PLACE)
def test_rows_without_a_use_come_back(name: str) -> None:
    """A lookup that breaks off takes no row: the next one numbers its rows as if it had not been."""
    backend = backends.get(name)
    state = lived_in(backend, "grows")
    rows = backend.export(state).next_row, backend.export(state).free_rows.tolist()
    for k in range(1, 200, 20):
        fails_at("line", k, STAGES["embed"](backend, state))
    assert (backend.export(state).next_row, backend.export(state).free_rows.tolist()) == rows


def test_kinds() -> None:
    assert set(KIND_OF) == set(KINDS)
