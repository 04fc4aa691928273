"""export_later while its rows are still being copied: each stage first keeps the rows that it changes.

The copy stands still at a block here, a stage runs on a table with a history, then the copy goes on.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest

from recis_core import backends
from recis_core.backends import rows_now
from recis_core.backends.rows_now import RowsNow, keep
from tests.contract.lived_in import KINDS, STAGES, Stage, attempt, lived_in, twin
from tests.contract.test_export_later import differing

IN_PLACE = ("torch", "numba")


@pytest.fixture
def standing_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few rows, and no thread that copies them."""
    monkeypatch.setattr(rows_now, "BLOCK", 100)
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)


def _copy_of(state: Any) -> RowsNow:
    return state.copying[0]


@pytest.mark.usefixtures("standing_still")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", IN_PLACE)
def test_a_stage_keeps_the_rows_that_it_changes(name: str, kind: str) -> None:
    backend, states = backends.get(name), 0
    before = lived_in(backend, kind)
    for stage in STAGES.values():
        for copied in (0, 1, 4):
            states += _unchanged_by(backend, twin(before), stage, copied)
    assert states  # some stages changed rows while the copy was not done


def _unchanged_by(backend: Any, state: Any, stage: Stage, copied: int) -> bool:
    """Whether the stage changed anything before the copy was done."""
    expected, later = backend.export(state), backend.export_later(state)
    now = _copy_of(state)
    for _ in range(copied):
        now._go_on()
    attempt(stage(backend, state))
    late = not now.done
    assert differing(later(), expected) == []
    return late and differing(backend.export(state), expected) != []


@pytest.mark.usefixtures("standing_still")
def test_two_copies_at_a_time() -> None:
    backend = backends.get("numba")
    state = lived_in(backend, "grows")
    exports, laters = [], []
    for stage in ("update", "update", "new_and_known"):
        exports.append(backend.export(state))
        laters.append(backend.export_later(state))
        attempt(STAGES[stage](backend, state))
    for later, expected in zip(reversed(laters), reversed(exports), strict=True):
        assert differing(later(), expected) == []
    backend.write_rows(state, *_rows_of(backend, state))
    assert state.copying == []


def _rows_of(backend: Any, state: Any) -> Any:
    rows = backend.marks(state).rows[:1]
    return rows, *backend.read_rows(state, rows)


def test_a_thread_copies_while_rows_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_now, "BLOCK", 1 << 10)
    array = np.arange(20_000, dtype=np.float32).reshape(5_000, 4)
    expected, into, rng = array.copy(), np.zeros_like(array), np.random.default_rng(0)
    now = RowsNow({"w": array}, {"w": into})
    copying = [now]
    for _ in range(200):
        rows = rng.permutation(5_000)[:100].astype(np.int32)
        keep(copying, rows)
        array[rows] = -1
    now.finish()
    np.testing.assert_array_equal(into, expected)
    assert (array == -1).any()


def test_without_the_note_a_change_is_seen() -> None:
    """The tests above can fail."""
    array = np.zeros((rows_now.BLOCK // 4 + 1, 1), np.float32)
    into = np.zeros_like(array)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: None)
        now = RowsNow({"w": array}, {"w": into})
        array[3] = 1
        now.finish()
    assert into[3] == 1


def test_a_forked_child_waits_for_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_now, "BLOCK", 4)
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    array = np.zeros((8, 1), np.float32)
    now = RowsNow({"w": array}, {"w": np.zeros_like(array)})
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    now._lock.acquire()  # as the copying thread held it at the fork
    now.keep(np.zeros(1, np.int32))
    now.finish()
    assert not now.done
