"""Forget ids. Pure, to be called inside a jitted step.

Sizes: N ids, U unique keys.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend import erase as stage
from recis_core.backends.jax_backend.state import REPORT
from recis_core.backends.jax_backend.xla_loops import XLA_LOOPS
from recis_core.jax import asking
from recis_core.jax.asking import Asked, Form
from recis_core.jax.layout import on_shards
from recis_core.jax.lookup import check_shards
from recis_core.jax.routes import sent
from recis_core.jax.state import TableState, constants_of


def erase(state: TableState, ids: Any, valid: Any = None) -> TableState:
    """The state without these ids: their rows are free, and they begin anew when they come again.

    Tickets of earlier lookups are stale then: update by them first.

    Args and errors: as lookup.
    """
    form, split, masks = asking.read(state.config, ids, valid)
    check_shards(state, form)
    return _traced(state, split, masks, form)


@partial(jax.jit, static_argnames=("form",))
def _traced(
    state: TableState, split: tuple[jax.Array, ...], masks: tuple[jax.Array, ...] | None, form: Form
) -> TableState:
    def part(own: TableState, batch: Any, shared: Any) -> tuple[Any, Any]:
        split, masks = batch
        asked = asking.joined(own.config, constants_of(own), form, split, masks)
        if own.layout is not None:
            asked = sent(asked, constants_of(own), own.layout, asked.valid.shape[0])[1]
        return _erased(own, asked), ()

    return on_shards(state.layout, part, state, (split, masks))[0]


def _erased(state: TableState, asked: Asked) -> TableState:
    constants, unique = constants_of(state), XLA_LOOPS.dedup(asked.keys, asked.valid)
    ordinals = (unique.keys.uids[:, None] == constants.uids).argmax(1).astype(jnp.int32)
    ids = jnp.stack([unique.keys.lo, unique.keys.hi], 1)
    index, report = stage.erase(state.index, constants, ids, ordinals, unique.count, loops=XLA_LOOPS)
    gone = report[REPORT.index("erased")]
    return replace(state, index=index, tally=state.tally._replace(erased=state.tally.erased + gone))
