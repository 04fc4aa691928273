"""Goes on from states that a TrainLoop saved, as `recis train --save` did before it had checkpoints of a manager."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from recis_core.framework.loop_state import LoopState, put_back_on_error, read_learned, read_loop_state
from recis_core.nn import filter_out_sparse_param
from recis_core.nn.hash_table import exchange_of
from recis_core.optim import JointOptimizer
from recis_core.serialize.dense import load_dense_state
from recis_core.serialize.parts import naming
from recis_core.serialize.shared_state import failing_together
from recis_core.serialize.tables import read_tables
from recis_core.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from recis_core.framework.trainer import Trainer


def load_loop(state: Mapping[str, Any], model: nn.Module, optimizer: JointOptimizer) -> dict[str, int]:
    """Tables, dense side, optimizer and random numbers of a state, of any number of ranks; returns its counts. Collective.

    What is refused changes nothing: all is read and checked first.

    Raises:
      StateMismatch (a ValueError): it is of another model or optimizer. CorruptCheckpoint: it is damaged.
    """
    exchange = exchange_of(model)
    rank = 0 if exchange is None else exchange.channel.rank
    return _load(state, model, optimizer, lambda: read_loop_state(state, model, optimizer, rank), slots=True)


def load_learned(
    state: Mapping[str, Any], model: nn.Module, optimizer: JointOptimizer, *, fresh: bool = False
) -> dict[str, int]:
    """load_loop for a new run: counts are 0 and random numbers this process's; `fresh` leaves out the optimizer's state."""
    return _load(
        state, model, optimizer, lambda: read_learned(state, model, None if fresh else optimizer), slots=not fresh
    )


def resume_trainer(trainer: Trainer, state: Mapping[str, Any]) -> int:
    """Let a Trainer go on from a TrainLoop's state; returns how many rows of the epoch in work are done. Raises as load_loop."""
    counts = load_loop(state, trainer.model, trainer.optimizer)
    trainer.step, trainer.rows = counts["step"], counts["rows"]
    trainer.epoch = trainer.epoch_in_window = counts["epoch"]
    trainer.mid_epoch = int(counts["rows_in_epoch"] > 0)
    return counts["rows_in_epoch"]


def _load(
    state: Mapping[str, Any], model: nn.Module, optimizer: JointOptimizer, read: Callable[[], LoopState], *, slots: bool
) -> dict[str, int]:
    with put_back_on_error(optimizer) as changes:
        with failing_together(exchange_of(model)):
            loaded = read()
            tables = read_tables(filter_out_sparse_param(model), state, slots=slots)
            if loaded.optimizer is not None:
                with naming(state, "optimizer"):
                    optimizer.load_state_dict(loaded.optimizer)
        with uninterrupted():
            changes.stay = True
            for each in tables:
                each.commit()
            load_dense_state(model, loaded.dense)
            torch.set_rng_state(loaded.random)
    return loaded.progress
