"""Room for new ids, and what a state has to tell: the calls that read the state on the host, between steps.

Sizes: S buckets, W ways, R rows, G shards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recis_core.backends import placement
from recis_core.backends.errors import NonFiniteGradient, RecisError, TableFull
from recis_core.backends.jax_backend.grow import grown, more_rows
from recis_core.backends.jax_backend.state import row_capacity
from recis_core.jax.layout import on_shards
from recis_core.jax.state import TableState, require_at_hand


@dataclass(frozen=True)
class Counts:
    """Of all shards together. `capacity`: ids that the state has room for, at its maximum load."""

    rows: int
    capacity: int
    inserted: int
    erased: int
    refused: int
    overflowed: int
    non_finite: int
    stale: int


def counts(state: TableState) -> Counts:
    """Waits for the program that makes the state."""
    require_at_hand(state)
    tally, used = jax.device_get((state.tally, state.index.used))
    shards = 1 if state.layout is None else state.layout.size
    ways = state.buckets * placement.WAYS * placement.MAX_LOAD[0] // placement.MAX_LOAD[1]
    # Every shard counts an update that none makes.
    everywhere = {name: int(np.max(getattr(tally, name))) for name in ("non_finite", "stale")}
    summed = {name: int(np.sum(getattr(tally, name))) for name in tally._fields if name not in everywhere}
    return Counts(int(np.sum(used)), shards * min(ways, state.rows), **summed, **everywhere)


def check(state: TableState) -> None:
    """Raise if a call so far could not do all that it was asked; waits for the program that makes the state.

    Raises:
      TableFull: new ids were refused. They read as zeros and were not trained.
      NonFiniteGradient: updates were left out. RecisError: ids were not sent, or a ticket was stale.
    """
    told = counts(state)
    names = ", ".join(state.config.names)
    if told.refused:
        raise TableFull(
            f"tables {names} refused {told.refused} new ids: {told.rows} of {told.capacity} rows are in use. These ids read as "
            "zeros and were not trained. Call state = reserve(state, ids a step) before each step, or state = grow(state) "
            "now, which goes on without them" + (". max_rows bounds the tables." if state.config.max_rows else ".")
        )
    if told.overflowed:
        raise RecisError(
            f"{told.overflowed} ids of tables {names} were not sent to their shards, for more than slack="
            f"{state.layout.slack} times a fair share of a batch belongs to one. "  # type: ignore[union-attr]
            "Make the state with a larger slack; slack = the number of shards is always enough."
        )
    if told.non_finite:
        raise NonFiniteGradient(
            f"{told.non_finite} updates of tables {names} held NaN or inf, in gradients, lr or factor, and changed no row."
        )
    if told.stale:
        raise RecisError(
            f"{told.stale} updates of tables {names} came by tickets of before an erase, and changed no row. Update first."
        )


def reserve(state: TableState, ids: int) -> TableState:
    """The state with room for `ids` more, counted with repeats; the same state where it has that.

    Call it before each step with the batch's ids, or every k steps with those of k batches. It reads the number of rows,
    and so waits for the last step. Tables double, as those of recis_core.nn do at the same calls; each size compiles a
    jitted step once. The old state stays whole, so that growth needs memory for both.

    Raises:
      TypeError, ValueError: ids is no number of ids. What `check` raises.
      TableFull: also where max_rows leaves no room for ids that came before.
    """
    if isinstance(ids, bool) or not isinstance(ids, int | np.integer):
        raise TypeError(f"ids must be how many ids come, an int; got {type(ids).__name__}.")
    if ids < 0:
        raise ValueError(f"ids must be at least 0; got {ids}.")
    check(state)
    used = int(np.max(jax.device_get(state.index.used)))
    if state.layout is not None:
        # A shard's own bound: every device may send it one bucket.
        ids = min(int(ids), state.layout.size * state.layout.bucket(-(-int(ids) // state.layout.size)))
    return _sized(state, _buckets(state, used, int(ids)))


def _buckets(state: TableState, used: int, ids: int) -> int:
    return placement.grown_buckets(state.buckets, used, ids) if state.config.spec.grows else state.buckets


def grow(state: TableState) -> TableState:
    """The state with twice the room, and without the count of refused ids, so that `check` passes again.

    Tables with max_rows keep their size.
    """
    refused = jnp.zeros_like(state.tally.refused)
    state = replace(state, tally=state.tally._replace(refused=refused))
    return _sized(state, state.buckets * (2 if state.config.spec.grows else 1))


def clear_errors(state: TableState) -> TableState:
    """The state without the counts that make `check` raise, to go on after its error."""
    none = {
        name: jnp.zeros_like(getattr(state.tally, name)) for name in ("refused", "overflowed", "non_finite", "stale")
    }
    return replace(state, tally=state.tally._replace(**none))


def _sized(state: TableState, buckets: int) -> TableState:
    if buckets == state.buckets:
        return state
    return _grown(state, buckets=buckets, capacity=row_capacity(state.config.spec, buckets))


@partial(jax.jit, static_argnames=("buckets", "capacity"))
def _grown(state: TableState, *, buckets: int, capacity: int) -> TableState:
    def part(own: TableState, batch: Any, shared: Any) -> tuple[Any, Any]:
        wide = partial(more_rows, capacity=capacity)
        slots = zip(own.slots, own.config.slot_initials, strict=True)
        return replace(
            own,
            index=grown(own.index, buckets, capacity),
            weights=wide(own.weights, jnp.float32(0)),
            slots=tuple(wide(array, jnp.float32(initial)) for array, initial in slots),
        ), ()

    return on_shards(state.layout, part, state, ())[0]
