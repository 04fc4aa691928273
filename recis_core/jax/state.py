"""A storage as a pytree: keys, rows, slots and marks in arrays, beside what is static.

Sizes: S buckets, W ways, E = S·W + stash entries, R rows, D dim, T logical tables, G shards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from recis_core.backends.errors import RecisError
from recis_core.backends.jax_backend import state as backend
from recis_core.backends.jax_backend.state import Constants
from recis_core.jax.config import TableConfig
from recis_core.jax.layout import Layout, stacked
from recis_core.pallas_kernels.index import Index


class Tally(NamedTuple):
    """Counts since the state was made; int32 [] each."""

    inserted: jax.Array  # ids that got a row
    erased: jax.Array
    refused: jax.Array  # new ids of lookups without room for them, since the last growth
    overflowed: jax.Array  # ids that a shard could not send, for their owner's bucket was full
    non_finite: jax.Array  # updates left out, for NaN or inf
    stale: jax.Array  # updates left out, for rows were erased after the ticket's lookup


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["index", "weights", "slots", "step", "applied", "tally"],
    meta_fields=["config", "layout"],
)
@dataclass(frozen=True)
class TableState:
    """Tables of one storage. A pytree: give it to a jitted step, donate it, and go on with what the step returns.

    With a layout each array has a leading axis of G shards, sharded over the mesh.
    """

    index: Index  # keys, row numbers, scores and stamps by entry; free rows
    weights: jax.Array  # [R, D]
    slots: tuple[jax.Array, ...]  # float32 [R, width], in the order of config.slots
    step: jax.Array  # int32 [], updates so far: what marks are stamped with
    applied: jax.Array  # int32 [T], t of each table's rule
    tally: Tally
    config: TableConfig
    layout: Layout | None = None

    @property
    def buckets(self) -> int:
        """S, of each shard."""
        return self.index.tags.shape[-2]

    @property
    def rows(self) -> int:
        """R, of each shard: rows there is memory for."""
        return self.weights.shape[-2]


def create(
    config: TableConfig,
    *,
    device: jax.Device | None = None,
    mesh: jax.sharding.Mesh | None = None,
    axis: str | None = None,
    slack: float = 2.0,
) -> TableState:
    """Empty tables, on one device or sharded over an axis of a mesh.

    Sharded, each device owns the ids of its run of hash slices, as ranks do in recis_core.exchange. `lookup` and `update`
    then take batches sharded over the axis, and send ids, rows and gradients all-to-all.

    Args:
      device: where the arrays lie without a mesh; None is JAX's default, to which they are not bound: a program whose
        other arrays are not bound either is compiled once.
      mesh, axis: of jax.sharding; axis may be left out where the mesh has one.
      slack: a device may send an owner this many times its fair share of a batch, and always 64 ids. `check` raises when
        that was not enough.

    Raises:
      TypeError, ValueError: config is no TableConfig; the mesh has no such axis; slack is below 1.
    """
    if not isinstance(config, TableConfig):
        raise TypeError(f"create takes a TableConfig; got {type(config).__name__}.")
    if mesh is None:
        if axis is not None:
            raise ValueError(f"axis={axis!r} needs a mesh; got mesh=None.")
        return empty(config, device)
    layout = Layout.of(mesh, axis, slack)
    share = shard_config(config, layout)
    return as_sharded([empty(share, d) for d in layout.devices], config, layout)


def shard_config(config: TableConfig, layout: Layout) -> TableConfig:
    """One shard's part of the rows."""
    most = None if config.max_rows is None else -(-config.max_rows // layout.size)
    return replace(config, rows=max(1, -(-config.rows // layout.size)), max_rows=most)


def as_sharded(shards: list[TableState], config: TableConfig, layout: Layout) -> TableState:
    """One state of a state for each device of the layout, all of one size."""
    whole = stacked([replace(shard, config=config) for shard in shards], layout)
    return replace(whole, layout=layout)


def empty(config: TableConfig, device: jax.Device | None) -> TableState:
    made = backend.create_state(config.spec, device)
    backend.add_slots(made, config.slots)
    return of_backend(made, zero_counts(config, device), config)


class Progress(NamedTuple):
    """What a state holds beside its storage."""

    step: jax.Array
    applied: jax.Array
    tally: Tally


def zero_counts(config: TableConfig, device: jax.Device | None) -> Progress:
    none = [jnp.zeros((), jnp.int32, device=device) for _ in range(1 + len(Tally._fields))]
    return Progress(none[0], jnp.zeros(len(config.names), jnp.int32, device=device), Tally(*none[1:]))


def of_backend(made: backend.TableState, progress: Progress, config: TableConfig) -> TableState:
    """The state of one device whose storage is jax_backend's. Both hold the same arrays: only one may donate them."""
    slots = tuple(made.slots[slot.name] for slot in config.slots)
    return TableState(made.index, made.weights, slots, *progress, config)


def require_at_hand(state: TableState) -> None:
    """Raises TypeError inside a jitted function, and RecisError where a step was given the state's arrays to write into."""
    if isinstance(state.weights, jax.core.Tracer):
        raise TypeError("this call reads the state on the host; call it between steps, outside of jitted functions.")
    if state.weights.is_deleted():
        raise RecisError(
            f"the arrays of tables {', '.join(state.config.names)} were donated to a step, or went with one that broke off. "
            "Go on with the state that the step returned, or load the rows again."
        )


def constants_of(state: TableState) -> Constants:
    """The storage's numbers, as constants of the program being traced."""
    made = jax.tree.map(jnp.asarray, backend.host_constants(state.config.spec))
    return made._replace(max_rows=jnp.minimum(made.max_rows, state.weights.shape[0]))
