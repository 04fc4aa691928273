"""A stage that breaks off on jax and pallas, whose programs are given the table's arrays.

Before a program runs nothing has changed. Once it has, the stage is finished, by itself or by the next. Where a program's
results are gone with an exception the table says so, and a saved state can be loaded into it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from recis_core import backends
from recis_core.backends import Backend
from recis_core.backends.errors import TableLost
from recis_core.backends.jax_backend import embed_calls
from tests.contract.faults import fails_at, places
from tests.contract.lived_in import (
    KINDS,
    SLOTS,
    STAGES,
    Content,
    Stage,
    attempt,
    content,
    emptied_and_placed,
    keys,
    lived_in,
    twin,
)
from tests.contract.pair import make_spec

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
NAMES = ("jax", pytest.param("pallas", marks=pytest.mark.full))
LINES = 1 << 40 if FULL else 6  # places that a stage is tried at
DONATING = ("embed", "seek_call", "lookup", "write_initial", "update", "erase", "write_rows", "write_marks")
REDUCED = ("many_new", "embed", "update", "restore")
CHOSEN = list(STAGES) if FULL else list(REDUCED)


class Broken(Exception):
    """Stands for a signal's exception."""


@contextmanager
def programs_break_off(backend: Any, k: int, *, when: str) -> Iterator[list[str]]:
    """The k-th program that is run raises, before it runs or after; their names."""
    run: list[str] = []
    programs = backend._programs

    def breaking(name: str, program: Any) -> Any:
        def call(*args: Any, **static: Any) -> Any:
            run.append(name)
            if len(run) == k and when == "before":
                raise Broken(name)
            result = program(*args, **static)
            if len(run) == k:
                raise Broken(name)
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name, program in list(vars(programs).items()):
            if callable(program) and name not in ("loops", "compiled"):
                patch.setattr(programs, name, breaking(name, program))
        yield run


def _outcomes(backend: Backend, state: Any, stage: Stage) -> tuple[Content, Content]:
    after = twin(state)
    attempt(stage(backend, after))
    return content(backend, state), content(backend, after)


def _goes_on(backend: Backend, state: Any, stage: Stage, wanted: tuple[Content, Content], where: str) -> None:
    """As if the stage had not been, or had been; and in the first case it can be had again."""
    seen = content(backend, state)
    assert seen in wanted, where
    if seen == wanted[0] != wanted[1]:
        attempt(stage(backend, state))
        assert content(backend, state) == wanted[1], f"again, after {where}"


def _broken_off(backend: Backend, state: Any, stage: Stage, when: str) -> Iterator[tuple[Any, list[str]]]:
    """The stage on twins of the state, its first program broken off, its second one …; with the programs that ran."""
    for k in range(1, 9):
        tried = twin(state)
        call = stage(backend, tried)
        with programs_break_off(backend, k, when=when) as run:
            try:
                attempt(call)
            except Broken:
                pass
            else:
                return
        yield tried, run


@pytest.mark.parametrize("stage", CHOSEN)
@pytest.mark.parametrize("name", NAMES)
def test_a_program_is_refused(name: str, stage: str) -> None:
    """None of a stage's programs loses the table by not running."""
    backend = backends.get(name)
    state = lived_in(backend, "grows")
    wanted = _outcomes(backend, state, STAGES[stage])
    count = 0
    for tried, run in _broken_off(backend, state, STAGES[stage], "before"):
        _goes_on(backend, tried, STAGES[stage], wanted, f"{run} of {stage}")
        count += 1
    assert count or stage == "add_slots"


@pytest.mark.parametrize("stage", CHOSEN)
@pytest.mark.parametrize("name", NAMES)
def test_results_are_gone(name: str, stage: str) -> None:
    """The table says that it is lost, wherever it is asked, and a saved state makes it anew."""
    backend = backends.get(name)
    state = lived_in(backend, "grows")
    wanted, saved = _outcomes(backend, state, STAGES[stage]), backend.export(state)
    for tried, run in _broken_off(backend, state, STAGES[stage], "after"):
        if run[-1] in DONATING and not (stage == "restore" and run[-1] in ("lookup", "write_marks")):
            _is_lost(backend, tried)
            backend.restore(tried, saved)
            assert _rows(content(backend, tried)) == _rows(wanted[0])
        _goes_on(backend, tried, STAGES[stage], (content(backend, tried), wanted[1]), f"{run} of {stage}")


def _is_lost(backend: Backend, state: Any) -> None:
    for ask in (backend.export, backend.counters, backend.marks, lambda s: backend.add_slots(s, SLOTS)):
        with pytest.raises(TableLost, match="Load the last saved state"):
            ask(state)
    for call in (STAGES["known"](backend, state), lambda: backend.erase(state, *keys(1))):
        with pytest.raises(TableLost):
            call()


def _rows(seen: Content) -> list[Any]:
    return [seen.snapshot.ids.tolist(), seen.snapshot.weights.tolist(), seen.snapshot.row_numbers.tolist()]


@pytest.mark.parametrize("stage", CHOSEN)
@pytest.mark.parametrize("name", NAMES)
def test_at_lines(name: str, stage: str) -> None:
    backend = backends.get(name)
    state = lived_in(backend, "grows")
    _at_lines(backend, state, STAGES[stage])


def _at_lines(backend: Backend, state: Any, stage: Stage) -> None:
    wanted, counted = _outcomes(backend, state, stage), twin(state)
    call = stage(backend, counted)
    total = places("line", lambda: attempt(call))
    for k in range(1, total + 1, max(1, total // LINES)):
        tried = twin(state)
        call = stage(backend, tried)
        assert fails_at("line", k, lambda call=call: attempt(call))
        _goes_on(backend, tried, stage, wanted, f"line {k}")


@pytest.mark.parametrize("name", NAMES)
def test_one_program_of_a_large_call(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of many ids run as one program, which is given all arrays at once."""
    backend = backends.get(name)
    state = lived_in(backend, "grows")
    monkeypatch.setattr(embed_calls, "APART", 0)
    _at_lines(backend, state, STAGES["embed"])
    with programs_break_off(backend, 1, when="after") as run, pytest.raises(Broken):
        STAGES["embed"](backend, state)()
    assert run == ["embed"]
    _is_lost(backend, state)


@pytest.mark.parametrize("name", NAMES)
def test_a_placed_snapshot(name: str) -> None:
    backend = backends.get(name)
    state, stage = emptied_and_placed(backend, "grows")
    _at_lines(backend, state, stage)


def test_new_rows_hold_initial_values_whatever_broke_off() -> None:
    """Between the index's half of a call and the rows' half: the next stage, even one that reads, writes them."""
    backend = backends.get("jax")
    state = lived_in(backend, "grows")
    wanted = _outcomes(backend, state, STAGES["embed"])
    with programs_break_off(backend, 2, when="before") as run, pytest.raises(Broken):
        STAGES["embed"](backend, state)()
    assert run == ["seek_call", "write_initial"]
    assert content(backend, state) == wanted[1]


def test_a_lost_table_can_be_cleared() -> None:
    """A fresh state of the same spec and slots takes its place; or it is restored from nothing."""
    backend = backends.get("jax")
    state = lived_in(backend, "grows")
    with programs_break_off(backend, 1, when="after"), pytest.raises(Broken):
        STAGES["erase"](backend, state)()
    empty = backend.add_slots(backend.create(make_spec(dim=3, **KINDS["grows"])), SLOTS)
    backend.restore(state, backend.export(empty))
    assert content(backend, state) == replace(content(backend, empty), counters=backend.counters(state))
