"""Other backends; tables that admit and evict: what was saved there goes on here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from recis_core.nn import AdmitHook, FilterHook
from recis_core.serialize import DeltaPolicy, open_checkpoint
from tests.exchange.models import assert_same_tables, rows_of
from tests.serialize.checkpoint.runs import Run
from tests.serialize.states import FULL

BACKENDS = ["torch", "jax"] if FULL else ["torch"]
HOOKS: dict[str, dict[str, Any]] = {
    "lfu": {"filter_hook": FilterHook("LFU", {"max_rows": 30})},
    "step": {"filter_hook": FilterHook("GlobalStepFilter", {"filter_step": 2})},
    "admits": {"admit_hook": AdmitHook("Frequency", {"threshold": 2})},
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_backend_and_back(tmp_path: Path, backend: str) -> None:
    run, there, back = Run(), Run(seed=6, backend=backend), Run(seed=7)
    run.step(range(3))
    manager = run.manager(tmp_path / "numba")
    manager.save(3)
    manager.close()
    there.manager(tmp_path / "numba").restore()
    assert there.state() == run.state()
    manager = there.manager(tmp_path / backend, delta=DeltaPolicy())
    for step in (4, 5):
        there.step([step])
        manager.save(step)
    manager.close()
    assert open_checkpoint(tmp_path / backend).kind == "delta"
    back.manager(tmp_path / backend).restore()
    assert back.state() == there.state()
    torch.manual_seed(0)
    run.step([4, 5])
    assert run.tables()["user"].ids().tolist() == there.tables()["user"].ids().tolist()


def evicting(run: Run, steps: range) -> None:
    for step in steps:
        run.step([step])
        for table in run.tables().values():
            table.evict()


@pytest.mark.parametrize("delta", [None, DeltaPolicy()])
@pytest.mark.parametrize("name", HOOKS)
def test_tables_that_admit_and_evict_go_on(tmp_path: Path, name: str, delta: DeltaPolicy | None) -> None:
    run, again = Run(**HOOKS[name]), Run(seed=6, **HOOKS[name])
    manager = run.manager(tmp_path, delta=delta)
    evicting(run, range(3))
    manager.save(3)
    evicting(run, range(3, 5))
    manager.save(5)
    manager.wait()
    rows = rows_of(run.model)
    evicting(run, range(5, 8))
    again.manager(tmp_path).restore()
    assert_same_tables(rows_of(again.model), rows, rtol=0)
    evicting(again, range(5, 8))
    assert again.state() == run.state()
