"""Loads a model's tables and dense side from a state of TrainLoop or `recis train --save`, or from a checkpoint of a
CheckpointManager, without loop and optimizer.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from torch import nn

from recis_core.channel.rank_group import world_rank, world_size
from recis_core.nn.hash_table import filter_out_sparse_param
from recis_core.serialize.checkpoint.contents import Contents
from recis_core.serialize.checkpoint.restoring import Restoring, require_all
from recis_core.serialize.checkpoint.selection import CheckpointSource, choose
from recis_core.serialize.dense import check_dense_state, load_dense_state
from recis_core.serialize.manifest import MANIFEST
from recis_core.serialize.parts import naming, part_of_state
from recis_core.serialize.saved_state import SavedState, latest_state
from recis_core.serialize.shared_state import failing_together
from recis_core.serialize.state_directory import states_in, step_of
from recis_core.serialize.store_path import Place, StorePath, place_of
from recis_core.serialize.store_states import steps_in_store
from recis_core.serialize.tables import read_tables
from recis_core.table.exchange_interface import Exchange
from recis_core.uninterrupted import uninterrupted


def is_saved_state(path: str | os.PathLike[str]) -> bool:
    """Whether path is a state or a directory of states, and no checkpoint of another kind."""
    directory = place_of(path)
    if isinstance(directory, StorePath):
        return (directory / MANIFEST).exists() or bool(steps_in_store(directory))
    if not directory.is_dir() or os.path.lexists(directory / ".metadata"):
        return False
    return os.path.lexists(directory / MANIFEST) or step_of(directory) is not None or bool(states_in(directory))


def load_saved_model(path: str | os.PathLike[str], model: nn.Module) -> None:
    """Load tables and dense side. Collective. Raises StateMismatch or CorruptCheckpoint, and then changes nothing."""
    _load(path, model, ("tables", "dense"))


def load_saved_tables(path: str | os.PathLike[str], model: nn.Module) -> None:
    """load_saved_model, for the tables alone."""
    _load(path, model, ("tables",))


def _load(path: str | os.PathLike[str], model: nn.Module, what: tuple[str, ...]) -> None:
    with failing_together(_exchange(model)):
        state = SavedState(latest_state(path))
        commit = _of_checkpoint(state.path, model, what) if state.has_tables else _of_state(state, model, what)
    with uninterrupted():
        commit()


def _of_checkpoint(path: Place, model: nn.Module, what: tuple[str, ...]) -> Callable[[], None]:
    """What a CheckpointManager saved, read aside; returns what puts it in place."""
    contents = Contents(model)
    names = [name for name in contents.names() if name.startswith(tuple(f"{each}/" for each in what))]
    chosen = choose([CheckpointSource(path, load=what)], names)
    require_all([name for name in names if name not in chosen.things], chosen.ignored)
    return Restoring(contents, chosen.things, world_rank(), world_size()).commit


def _of_state(state: SavedState, model: nn.Module, what: tuple[str, ...]) -> Callable[[], None]:
    """What --save or save_state wrote, read aside; returns what puts it in place."""
    dense = part_of_state(state, "dense") if "dense" in what else None
    if dense is not None:
        with naming(state, "dense"):
            check_dense_state(model, dense)
    new = read_tables(filter_out_sparse_param(model), state)

    def commit() -> None:
        for each in new:
            each.commit()
        if dense is not None:
            load_dense_state(model, dense)

    return commit


def _exchange(model: nn.Module) -> Exchange | None:
    tables = list(filter_out_sparse_param(model).values())
    return tables[0].physical.exchange if tables else None
