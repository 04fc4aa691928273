"""load_model and load_tables read what a manager saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recis_core.errors import StateMismatch
from recis_core.serialize import load_model, load_tables
from tests.exchange.models import Model
from tests.serialize.checkpoint.runs import Run


def test_tables_and_dense_side(tmp_path: Path) -> None:
    run, whole, tables = Run(), Run(seed=7), Run(seed=7)
    run.step(range(3))
    manager = run.manager(tmp_path)
    manager.save(3)
    manager.close()
    before = tables.model.tower[0].weight.clone()
    load_model(tmp_path, whole.model)
    load_tables(tmp_path / "step-00000003", tables.model)
    assert whole.sha() == tables.sha() == run.sha()
    assert torch.equal(whole.model.tower[0].weight, run.model.tower[0].weight)
    assert torch.equal(tables.model.tower[0].weight, before)
    other = Model(dim=4)
    with pytest.raises(StateMismatch):
        load_model(tmp_path, other)
    assert len(other.engine.sparse_parameters()["user"]) == 0
