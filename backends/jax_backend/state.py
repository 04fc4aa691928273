"""A table in JAX arrays of our own, donated to each program that changes it.

torch never holds a view of them, for donating an array with a live view copies it.

Sizes: S buckets, W ways, E = S·W + STASH entries, R rows, D dim, T logical tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recis_core.backends import placement
from recis_core.backends.initial_values import HALF
from recis_core.backends.jax_backend.ladder import Ladder
from recis_core.backends.row_checks import new_slots
from recis_core.backends.spec import Counters, SlotSpec, TableSpec
from recis_core.pallas_kernels.index import NOWHERE, Index

if TYPE_CHECKING:
    from recis_core.backends.jax_backend.seek import Sought

W = placement.WAYS
WEIGHTS = ""  # beside the names of slots
REPORT = ("used", "next_row", "erased_rows", "stashed", "found", "inserted", "unknown", "evicted", "erased", "failed")


class Constants(NamedTuple):
    """A table's numbers, as arguments: tables of one shape share their programs."""

    uids: jax.Array  # uint32 [T]
    seed: jax.Array  # uint32 [2], high word first
    quantiles: jax.Array  # int32 [2 * HALF]
    scale: jax.Array  # float32 []
    max_rows: jax.Array  # int32 []
    first_pair: jax.Array  # uint32 [], of columns, that the table holds


@dataclass
class TableState:
    """One assignment stores a program's results where the replaced arrays were. What remains to be done with them follows,
    or, if that breaks off, the next stage does it first (unfinished.py).
    """

    spec: TableSpec
    device: jax.Device
    constants: Constants
    index: Index
    weights: jax.Array  # [R, D]
    slots: dict[str, jax.Array] = field(default_factory=dict)  # float32 [R, width]
    slot_specs: dict[str, SlotSpec] = field(default_factory=dict)
    ladder: Ladder = field(default_factory=Ladder)
    reports: tuple[tuple[jax.Array, int], ...] = ()  # not yet read: int32 [len(REPORT)], ids its call may have inserted
    known: int = 0  # keys when the last report read was written
    counters: Counters = field(default_factory=Counters)
    failed: int = 0  # new ids of calls that found no room, until TableFull is raised
    landed: tuple[jax.Array, ...] | None = None  # weights or slots from a program, to be put where `landing` says
    landing: tuple[str, ...] = ()  # names of slots; WEIGHTS for the weights
    report: jax.Array | None = None  # of the last call, not yet among `reports`
    incoming: int = 0  # ids that the last call may insert
    sought: Sought | None = None  # of keys that are in the index, whose rows hold nothing yet
    grown: Index | None = None  # the index as a call that is under way has grown it

    @property
    def upper(self) -> int:
        """An upper bound of the table's keys, whatever the unread reports hold."""
        return self.known + sum(incoming for _, incoming in self.reports)

    @property
    def slot_arrays(self) -> tuple[jax.Array, ...]:
        return tuple(self.slots.values())

    @property
    def slot_initials(self) -> tuple[float, ...]:
        """Initial values of slots, in the order of slot_arrays."""
        return tuple(spec.initial for spec in self.slot_specs.values())


def empty_index(buckets: int, rows: int, device: jax.Device) -> Index:
    entries = buckets * W + placement.STASH
    words = {name: jnp.zeros(entries, jnp.uint32, device=device) for name in ("lo", "hi", "uids")}
    numbers = {name: jnp.zeros((), jnp.int32, device=device) for name in ("free_count", "next_row", "stashed")}
    return Index(
        tags=jnp.zeros((buckets, W), jnp.uint32, device=device),
        rows=jnp.full(entries, -1, jnp.int32, device=device),
        scores=jnp.zeros(entries, jnp.int32, device=device),
        stamps=jnp.full(entries, -1, jnp.int32, device=device),
        free=jnp.zeros(rows, jnp.int32, device=device),
        taken=jnp.zeros(buckets, jnp.int32, device=device),
        claims=jnp.full(buckets, NOWHERE, jnp.int32, device=device),
        **words,
        **numbers,
    )


def row_capacity(spec: TableSpec, buckets: int) -> int:
    return placement.row_capacity(buckets) if spec.max_rows is None else spec.max_rows


def create_state(spec: TableSpec, device: jax.Device) -> TableState:
    rows = row_capacity(spec, spec.buckets)
    weights = jnp.zeros((rows, spec.dim), jnp.dtype(spec.dtype), device=device)
    return TableState(spec, device, constants_of(spec, device), empty_index(spec.buckets, rows, device), weights)


def constants_of(spec: TableSpec, device: jax.Device) -> Constants:
    return jax.device_put(host_constants(spec), device)


def host_constants(spec: TableSpec) -> Constants:
    """As numpy's arrays, which a traced program takes in as its own."""
    quantiles = np.array(spec.distribution.quantiles, np.int32).reshape(2 * HALF)
    return Constants(
        np.asarray(spec.uids, np.uint32),
        np.array([spec.seed >> 32 & 0xFFFFFFFF, spec.seed & 0xFFFFFFFF], np.uint32),
        quantiles,
        np.float32(spec.distribution.scale),
        np.int32(NOWHERE if spec.max_rows is None else spec.max_rows),
        np.uint32(spec.first_column // 2),
    )


def add_slots(state: TableState, slots: tuple[SlotSpec, ...]) -> None:
    arrays, specs = dict(state.slots), dict(state.slot_specs)
    for slot in new_slots(specs, slots):
        specs[slot.name] = slot
        shape = (state.weights.shape[0], slot.width)
        arrays[slot.name] = jnp.full(shape, slot.initial, jnp.float32, device=state.device)
    state.slots, state.slot_specs = arrays, specs
