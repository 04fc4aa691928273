"""Embedding tables for programs that are written in JAX: pure functions of a pytree state.

    config = TableConfig("item", dim=16, rule=Adam(lr=1e-3))
    state = create(config)

    @partial(jax.jit, donate_argnums=0)
    def step(state, words, target):
        state, rows, ticket = lookup(state, words)
        grads = jax.grad(lambda rows: ((rows.sum(1) - target) ** 2).mean())(rows)
        return update(state, ticket, grads)

    state = step(reserve(state, len(ids)), words(ids), target)

The same placement, initial values and rules as recis_core.nn and recis_core.optim, on the same programs as the jax
backend. docs/jax.md
"""

from recis_core.jax.blocks import blocks_of, load_blocks
from recis_core.jax.config import TableConfig
from recis_core.jax.erasing import erase
from recis_core.jax.ids import padded, words, words_of_int32
from recis_core.jax.lookup import Ticket, find, lookup
from recis_core.jax.moves import from_table, to_table
from recis_core.jax.pooling import offsets_of, pool
from recis_core.jax.room import Counts, check, clear_errors, counts, grow, reserve
from recis_core.jax.rules import SGD, Adagrad, Adam, AdamW, AdamWTF, RowWiseAdagrad, Rule
from recis_core.jax.state import TableState, create
from recis_core.jax.update import update

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdamWTF",
    "Counts",
    "RowWiseAdagrad",
    "Rule",
    "TableConfig",
    "TableState",
    "Ticket",
    "blocks_of",
    "check",
    "clear_errors",
    "counts",
    "create",
    "erase",
    "find",
    "from_table",
    "grow",
    "load_blocks",
    "lookup",
    "offsets_of",
    "padded",
    "pool",
    "reserve",
    "to_table",
    "update",
    "words",
    "words_of_int32",
]
