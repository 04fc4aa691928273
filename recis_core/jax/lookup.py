"""Look up rows: find or insert, and find alone. Pure, to be called inside a jitted step.

Sizes: N ids, U unique keys, D dim, G shards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.embed import Kept, kept_of, read_rows
from recis_core.backends.jax_backend.new_rows import write_initial
from recis_core.backends.jax_backend.seek import Manner, New, Sought, seek
from recis_core.backends.jax_backend.state import REPORT
from recis_core.backends.jax_backend.xla_loops import XLA_LOOPS
from recis_core.jax import asking
from recis_core.jax.asking import Asked, Form
from recis_core.jax.layout import on_shards
from recis_core.jax.routes import Route, sent
from recis_core.jax.state import TableState, constants_of


@partial(jax.tree_util.register_dataclass, data_fields=["kept", "route", "erased"], meta_fields=["form"])
@dataclass(frozen=True)
class Ticket:
    """What `update` needs of one lookup: which rows its ids have, and which ids are alike. A pytree."""

    kept: Kept
    route: Route | None  # where ids went, of a sharded state
    erased: jax.Array  # int32 [], ids erased before the lookup
    form: Form


def lookup(state: TableState, ids: Any, valid: Any = None) -> tuple[TableState, Any, Ticket]:
    """Rows of ids; new ids get a row with its initial values, the same as on the torch side.

        state, rows, ticket = lookup(state, words)
        loss, grads = jax.value_and_grad(loss_of)(rows, …)
        state = update(state, ticket, grads)

    New ids of a call that finds no room for all of them get none: their rows read as zeros, take no gradient and are
    counted; `check` and `reserve` raise then.

    Args:
      ids: words of ids, uint32 [..., 2] (see `words`). Of a storage of several tables a dict, {table name: words, or a
        tree of them}. Sharded, the first axis of each is cut over the shards.
      valid: bool arrays in the same form, [...]: False leaves an id out, as padding. None for all.

    Returns:
      the state; rows float32 [..., D] in the form of ids, zeros where an id is left out; and the ticket of the call.

    Raises:
      TypeError, ValueError: ids are of no 64 bits, or of no table of the state; valid has another form; a first axis does
        not divide by the shards.
    """
    return _called(state, ids, valid, _insert)


def find(state: TableState, ids: Any, valid: Any = None, *, unknown: str = "zeros") -> Any:
    """Rows of ids, in an evaluation: nothing is inserted, marked or counted.

    unknown: what an id without a row reads as, "zeros" or its "initial" value.

    Raises as lookup.
    """
    if unknown not in FIND:
        raise ValueError(f"unknown must be 'zeros' or 'initial'; got {unknown!r}.")
    return _called(state, ids, valid, FIND[unknown])[1]


def _called(state: TableState, ids: Any, valid: Any, how: Any) -> tuple[TableState, Any, Ticket]:
    form, split, masks = asking.read(state.config, ids, valid)
    check_shards(state, form)
    return _traced(state, split, masks, form, how)


def check_shards(state: TableState, form: Form) -> None:
    size = 1 if state.layout is None else state.layout.size
    for shape in form.shapes:
        if shape[0] % size:
            raise ValueError(
                f"the first axis of ids must divide by {size} shards; got {list(shape)}. Pad it, with valid=…."
            )


@partial(jax.jit, static_argnames=("form", "how"))
def _traced(
    state: TableState, split: tuple[jax.Array, ...], masks: tuple[jax.Array, ...] | None, form: Form, how: Any
) -> tuple[TableState, Any, Ticket]:
    """jitted, so that a call outside of a program compiles one; inside it is part of that."""

    def part(own: TableState, batch: Any, shared: Any) -> tuple[Any, Any]:
        split, masks = batch
        asked = asking.joined(own.config, constants_of(own), form, split, masks)
        own, values, kept, route = _routed(own, asked, how)
        return (own, kept, route, own.tally.erased), asking.parted(values, split, trailing=1)

    (state, kept, route, erased), rows = on_shards(state.layout, part, state, (split, masks))
    return state, jax.tree.unflatten(form.tree, rows), Ticket(kept, route, erased, form)


def _routed(state: TableState, asked: Asked, how: Any) -> tuple[TableState, jax.Array, Kept, Route | None]:
    if state.layout is None:
        return *how(state, asked), None
    size = asked.valid.shape[0]
    bucket = state.layout.bucket(size) if how is _insert else size  # `find` has no state to count in
    route, there = sent(asked, constants_of(state), state.layout, bucket)
    state, values, kept = how(state, there)
    tally = state.tally._replace(overflowed=state.tally.overflowed + route.overflowed)
    return replace(state, tally=tally), route.answered(values), kept, route


def _insert(state: TableState, asked: Asked) -> tuple[TableState, jax.Array, Kept]:
    constants, manner = constants_of(state), Manner(True, True, False, state.config.score == "count")
    clock = jnp.stack([state.step, state.step])
    index, sought = seek(state.index, constants, asked.keys, asked.valid, clock, manner, XLA_LOOPS)
    new: New = sought.new  # type: ignore[assignment]  # there, for this call inserts
    weights, slots = write_initial(state.weights, state.slots, constants, new, state.config.slot_initials)
    values = read_rows(weights, sought.rows, asked.keys, constants, False, XLA_LOOPS)
    kept = kept_of(sought._replace(rows=_after(values, sought.rows)), asked.keys, asked.ordinals, None)
    state = replace(state, index=index, weights=weights, slots=slots, tally=_counted(state, sought))
    return state, values, kept


def _counted(state: TableState, sought: Sought) -> Any:
    numbers = dict(zip(REPORT, sought.report, strict=True))
    tally = state.tally
    return tally._replace(inserted=tally.inserted + numbers["inserted"], refused=tally.refused + numbers["failed"])


def _after(values: jax.Array, rows: jax.Array) -> jax.Array:
    """`rows`, int32 >= -1, unchanged, to be written to only once `values` were read.

    XLA copies a table that is written to while a read of it may still come. A write to places that depend on the read
    cannot come before it, whatever the gradients depend on.
    """
    bits = jax.lax.bitcast_convert_type(values[:, 0], jnp.int32)
    return jnp.maximum(rows, jnp.minimum(bits.min(), -1))


def _find(state: TableState, asked: Asked, *, initial: bool) -> tuple[TableState, jax.Array, None]:
    constants, manner = constants_of(state), Manner(False, False, False, False, repeats=False)
    clock = jnp.zeros(2, jnp.int32)
    _, sought = seek(state.index, constants, asked.keys, asked.valid, clock, manner, XLA_LOOPS)
    values = read_rows(state.weights, sought.rows, asked.keys, constants, initial, XLA_LOOPS)
    return state, jnp.where(asked.valid[:, None], values, 0.0), None


# One object each, for they are static arguments of a program.
FIND = {"zeros": partial(_find, initial=False), "initial": partial(_find, initial=True)}
