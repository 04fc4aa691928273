"""Tables from recis_core.nn to JAX and back: rows, slots, marks, placement, and counts of steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recis_core.backends.errors import RecisError
from recis_core.jax.config import TableConfig
from recis_core.jax.rows import parts_by_owner, snapshot_of, with_snapshots
from recis_core.jax.rule_of import rule_of
from recis_core.jax.rules import Rule
from recis_core.jax.state import TableState, create
from recis_core.nn.hash_table import HashTable
from recis_core.plain_torch import in_plain_torch
from recis_core.serialize.resumed import Resumed
from recis_core.table.table import Table
from recis_core.uninterrupted import uninterrupted


@in_plain_torch
def from_table(table: HashTable, rule: Rule | None = None, **where: Any) -> TableState:
    """A state with the rows of a table, and of those that share its storage; the table stays as it is.

    On one device keys keep their entries and rows their numbers, so that both sides go on with the same bits.

    Args:
      table: of an engine, `engine.sparse_parameters()[name]`, or one alone. Hooks that admit or evict its rows stay behind.
      rule: how `update` changes rows; None is what the table's sparse optimizer does, with its numbers as they are now.
      where: device, or mesh, axis and slack, as in `create`.

    Raises:
      RecisError: ranks share the table, or gradients wait for a step. ValueError: rows have slots that the rule lacks.
    """
    storage = _storage(table)
    rule = rule_of(storage) if rule is None else rule
    state = create(_config(table, rule), **where)
    with storage.lock:
        snapshot, step, applied = storage.export(), storage.step, storage.applied
    _check_slots(state.config, set(snapshot.slots))
    placed = state.layout is None
    state = with_snapshots(state, parts_by_owner(state, snapshot), placed=placed)
    return _at(state, step, applied)


@in_plain_torch
def to_table(state: TableState, table: HashTable) -> None:
    """Replace the rows of a table, and of those that share its storage, by the state's; the state stays as it is.

    A state of one device takes its placement along. Make the table's sparse optimizer before, so that slots and t have
    their place; its numbers stay.

    Raises:
      RecisError: ranks share the table, gradients wait for a step, or the table has no optimizer for the state's slots.
      ValueError: names, dim, dtype, seed, initializer or slots differ. The table is unchanged then.
    """
    storage = _storage(table)
    config = _config(table, state.config.rule)
    if config.spec != replace(state.config.spec, rows=config.rows) or config.names != state.config.names:
        raise ValueError(f"the state is of {state.config}; the table is of {config}. They must agree.")
    _check_housed(state.config, storage)
    new = Resumed(storage)
    new.add(snapshot_of(state))
    new.step = int(np.max(jax.device_get(state.step)))
    t = tuple(np.max(jax.device_get(state.applied).reshape(-1, len(config.names)), 0).tolist())
    with uninterrupted():
        new.commit()
        _take_t(storage, t)


def _storage(table: HashTable) -> Table:
    if not isinstance(table, HashTable):
        raise TypeError(
            f"wanted a table, as engine.sparse_parameters()[name] or a HashTable; got {type(table).__name__}."
        )
    storage = table.physical
    if storage.world > 1:
        raise RecisError(
            f"ranks share table {table.name!r}. Load a saved state in one process, or pass its rows by load_blocks."
        )
    if storage.has_gradient or storage.carried is not None:
        raise RecisError(f"gradients of table {table.name!r} wait for a step. Call optimizer.step() or zero_grad().")
    return storage


def _config(table: HashTable, rule: Rule | None) -> TableConfig:
    spec, names = table.physical.spec, table.physical.names
    return TableConfig(
        names, spec.dim, rule,
        rows=spec.rows, max_rows=spec.max_rows, initializer=table.option.init, seed=spec.seed, dtype=spec.dtype,
        score=spec.score,
    )  # fmt: skip


def _check_slots(config: TableConfig, found: set[str]) -> None:
    known = {slot.name for slot in config.slots}
    if found - known:
        raise ValueError(
            f"rows of {', '.join(config.names)} have slots {sorted(found)}; the rule keeps {sorted(known)}. Pass rule=… of the "
            "optimizer that trained them."
        )


def _check_housed(config: TableConfig, storage: Table) -> None:
    wanted = {(slot.name, slot.width) for slot in config.slots}
    there = {(slot.name, slot.width) for slot in storage.slot_specs}
    if wanted and storage.optimizer is None:
        raise RecisError(
            f"tables {', '.join(config.names)} have no optimizer that would keep slots {sorted(n for n, _ in wanted)}. "
            "Make the sparse optimizer first."
        )
    if wanted != there:
        raise ValueError(f"the state's slots are {sorted(wanted)}; the table's are {sorted(there)}, by name and width.")


def _take_t(storage: Table, t: tuple[int, ...]) -> None:
    storage.applied, optimizer = t, storage.optimizer
    if optimizer is not None:
        saved = optimizer.state_dict()
        optimizer.load_state_dict(saved | {"t": saved["t"] | dict(zip(storage.names, t, strict=True))})


def _at(state: TableState, step: int, applied: tuple[int, ...]) -> TableState:
    """The state after so many steps, on each shard."""

    def filled(array: jax.Array, value: Any) -> jax.Array:
        return jnp.zeros_like(array) + jnp.asarray(value, jnp.int32)

    return replace(state, step=filled(state.step, step), applied=filled(state.applied, applied))
