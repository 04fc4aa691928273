"""Loads a model's tables and dense side from a state of TrainLoop or `recis train --save`, without loop and optimizer."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from recis_core.nn.hash_table import filter_out_sparse_param
from recis_core.serialize.dense import check_dense_state, load_dense_state
from recis_core.serialize.manifest import MANIFEST
from recis_core.serialize.parts import naming, part_of_state
from recis_core.serialize.saved_state import SavedState, latest_state
from recis_core.serialize.shared_state import failing_together
from recis_core.serialize.state_directory import states_in, step_of
from recis_core.serialize.tables import read_tables
from recis_core.table.exchange_interface import Exchange
from recis_core.uninterrupted import uninterrupted


def is_saved_state(path: str | os.PathLike[str]) -> bool:
    """Whether path is a state or a directory of states, and no checkpoint of another kind."""
    directory = Path(path)
    if not directory.is_dir() or os.path.lexists(directory / ".metadata"):
        return False
    return os.path.lexists(directory / MANIFEST) or step_of(directory) is not None or bool(states_in(directory))


def load_saved_model(path: str | os.PathLike[str], model: nn.Module) -> None:
    """Load tables and dense side. Collective. Raises StateMismatch or CorruptCheckpoint, and then changes nothing."""
    tables = filter_out_sparse_param(model)
    with failing_together(_exchange(model)):
        state = SavedState(latest_state(Path(path)))
        dense = part_of_state(state, "dense")
        with naming(state, "dense"):
            check_dense_state(model, dense)
        new = read_tables(tables, state)
    with uninterrupted():
        for each in new:
            each.commit()
        load_dense_state(model, dense)


def load_saved_tables(path: str | os.PathLike[str], model: nn.Module) -> None:
    """load_saved_model, for the tables alone."""
    with failing_together(_exchange(model)):
        new = read_tables(filter_out_sparse_param(model), SavedState(latest_state(Path(path))))
    with uninterrupted():
        for each in new:
            each.commit()


def _exchange(model: nn.Module) -> Exchange | None:
    tables = list(filter_out_sparse_param(model).values())
    return tables[0].physical.exchange if tables else None
