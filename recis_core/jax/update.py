"""One optimizer step on the rows of a lookup. Pure, to be called inside a jitted step.

Sizes: N ids, U unique keys, D dim, T logical tables.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from recis_core.backends.errors import RecisError
from recis_core.backends.jax_backend import stages
from recis_core.backends.jax_backend.embed import Kept
from recis_core.backends.jax_backend.gradient import KeyedGradient, Terms, sum_in_order
from recis_core.backends.jax_backend.xla_loops import XLA_LOOPS
from recis_core.jax import asking
from recis_core.jax.layout import on_shards
from recis_core.jax.lookup import Ticket
from recis_core.jax.rules import Rule, hyper_of
from recis_core.jax.state import TableState, constants_of


def update(
    state: TableState,
    ticket: Ticket,
    grads: Any,
    *,
    lr: jax.Array | float | None = None,
    factor: jax.Array | float = 1.0,
) -> TableState:
    """The state after one step of its rule on the rows that the ticket's lookup read.

    Gradients of an id that came several times are summed first, in the order of the ids: the same bits on every run.
    A gradient, lr or factor that is not finite changes nothing and is counted, as is a ticket of before an `erase`;
    `check` and `reserve` raise then.

    Args:
      grads: d loss / d rows in the form of the lookup's rows, [..., D]; what belongs to padding is ignored.
      lr: replaces the rule's, for schedules: lr=schedule(step).
      factor: multiplies the gradient first: 1 / loss scale, or what clips it.

    Raises:
      RecisError: the state has no rule. ValueError: grads have another form than the rows.
    """
    if state.config.rule is None:
        raise RecisError(
            f"tables {', '.join(state.config.names)} have no rule to update by. Make them with "
            "TableConfig(…, rule=Adam(lr=1e-3)), or bring them by from_table(table, rule=…)."
        )
    leaves = asking.grads_of(ticket.form, grads, state.config.dim)
    rate = state.config.rule.lr if lr is None else lr
    return _traced(state, ticket, leaves, rate, factor)


@jax.jit
def _traced(state: TableState, ticket: Ticket, leaves: tuple[jax.Array, ...], lr: Any, factor: Any) -> TableState:
    def part(own: Any, batch: Any, shared: Any) -> tuple[Any, Any]:
        state, ticket = own
        grads = jnp.concatenate([leaf.reshape(-1, state.config.dim) for leaf in batch])
        if ticket.route is not None:
            grads = ticket.route.collected(grads)
        return _updated(state, ticket, grads, *shared), ()

    return on_shards(state.layout, part, (state, ticket), leaves, (lr, jnp.asarray(factor, jnp.float32)))[0]


def _updated(state: TableState, ticket: Ticket, grads: jax.Array, lr: Any, factor: jax.Array) -> TableState:
    rule: Rule = state.config.rule  # type: ignore[assignment]
    gradient, t = _summed(ticket.kept, grads), state.applied + 1
    hyper = hyper_of(rule, lr, t)
    finite = _everywhere(state, _is_finite(gradient, hyper, factor))
    fresh = _everywhere(state, ticket.erased == state.tally.erased)
    goes = finite & fresh
    gradient = gradient._replace(count=jnp.where(goes, gradient.count, 0))
    weights, slots = stages.update(
        state.weights, state.slots, gradient, constants_of(state), hyper, factor, t,
        rule.update_rule(state.config.dim), loops=XLA_LOOPS,
    )  # fmt: skip
    one, tally = goes.astype(jnp.int32), state.tally
    tally = tally._replace(
        non_finite=tally.non_finite + (~finite).astype(jnp.int32), stale=tally.stale + (~fresh).astype(jnp.int32)
    )
    return replace(state, weights=weights, slots=slots, step=state.step + one, applied=state.applied + one, tally=tally)


def _summed(kept: Kept, grads: jax.Array) -> KeyedGradient:
    position = jnp.arange(grads.shape[0], dtype=jnp.int32)
    sums = sum_in_order(Terms(grads, position, None), kept.order, kept.offsets, kept.count, XLA_LOOPS)
    counts = kept.offsets[1:] - kept.offsets[:-1]
    return KeyedGradient(kept.lo, kept.hi, kept.ordinals, kept.rows, sums, counts, kept.count)


def _is_finite(gradient: KeyedGradient, hyper: jax.Array, factor: jax.Array) -> jax.Array:
    real = stages.first(gradient.rows.shape[0], gradient.count)[:, None]
    of_rows = jnp.isfinite(jnp.where(real, gradient.values, 0)).all()
    return of_rows & jnp.isfinite(hyper).all() & jnp.isfinite(factor)


def _everywhere(state: TableState, flag: jax.Array) -> jax.Array:
    """Whether the flag holds on every shard: all step, or none."""
    if state.layout is None:
        return flag
    return jax.lax.pmin(flag.astype(jnp.int32), state.layout.axis) == 1
