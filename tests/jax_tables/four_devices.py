"""A program of its own: one device and four train the same, and what only four can do wrong. Prints JSON.

XLA_FLAGS=--xla_force_host_platform_device_count=4 python -m tests.jax_tables.four_devices explicit
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType

import recis_core.jax as rj
from recis_core.errors import RecisError
from recis_core.jax.rows import snapshot_of
from tests.jax_tables.test_one_program import bytes_of, table_copies
from tests.jax_tables.twins import assert_same, batches

N, SHARDS = 64, 4
CONFIG = rj.TableConfig(("item", "user"), 8, rj.AdamW(lr=0.05), rows=20_000)


@partial(jax.jit, donate_argnums=0)
def step(state: rj.TableState, words: Any, valid: Any, target: Any) -> Any:
    state, rows, ticket = rj.lookup(state, words, valid)

    def loss_of(rows: Any) -> jax.Array:
        return ((rows["item"].sum(1) * 0.3 + rows["user"].sum(1) - target) ** 2).mean()

    loss, grads = jax.value_and_grad(loss_of)(rows)
    return rj.update(state, ticket, grads), loss, rows["item"]


def inputs(number: int, seed: int) -> list[Any]:
    out = []
    for batch in batches(number, seed, 300):
        item, valid = rj.padded(batch.ids, N)
        user, _ = rj.padded(batch.ids[::-1] % 7, N)
        out.append(({"item": item, "user": user}, {"item": valid, "user": valid}, np.resize(batch.target, N)))
    return out


def train(state: rj.TableState, given: list[Any]) -> tuple[rj.TableState, np.ndarray]:
    losses = []
    for each in given:
        state, loss, _ = step(rj.reserve(state, 2 * N), *each)
        losses.append(float(loss))
    return state, np.array(losses)


def overflow(mesh: Any) -> str:
    """All ids of a large batch belong to one shard, and its bucket is too small."""
    config = rj.TableConfig("item", 4, rows=5000)
    state = rj.create(config, mesh=mesh, slack=1.0)
    ids = np.arange(20_000)
    from recis_core.backends import placement

    mine = ids[placement.slices(ids, np.uint32(config.spec.uids[0])) * SHARDS >> 16 == 2][:2048]
    state, rows, _ = jax.jit(rj.lookup, donate_argnums=0)(state, rj.words(mine))
    told = rj.counts(state)
    assert told.overflowed == 2048 - SHARDS * 128 == int((~np.asarray(rows).any(1)).sum())
    found = rj.find(state, rj.words(mine))  # an evaluation sends all
    assert int(np.asarray(found).any(1).sum()) == told.rows == SHARDS * 128
    try:
        rj.check(state)
    except RecisError as error:
        return str(error)
    raise AssertionError("an overflow was not told")


def main(kind: str) -> None:
    mesh = jax.make_mesh((SHARDS,), ("data",), axis_types=(getattr(AxisType, kind.capitalize()),))
    given = inputs(30, 1)
    one, our_losses = train(rj.create(CONFIG), given)
    four, their_losses = train(rj.create(CONFIG, mesh=mesh), given)
    np.testing.assert_allclose(our_losses, their_losses, rtol=1e-5)
    compiled = step._cache_size()
    ours, theirs = snapshot_of(one), by_key(snapshot_of(four))
    assert_same(theirs, ours, places=False)

    program = step.lower(four, *given[0]).compile()
    memory = program.memory_analysis()
    assert memory.alias_size_in_bytes == bytes_of(four) // SHARDS
    share = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), four)
    assert table_copies(program.as_text(), share) == []

    words = rj.words(np.arange(7))
    erased = rj.erase(four, {"user": rj.words(np.resize(np.arange(7), 8))})
    assert rj.counts(erased).rows == rj.counts(one).rows - 7
    assert not np.asarray(rj.find(rj.erase(one, {"user": words}), {"user": words})["user"]).any()

    emptied = rj.create(CONFIG, mesh=mesh)
    loaded = emptied
    for name in CONFIG.names:
        loaded = rj.load_blocks(loaded, name, rj.blocks_of(one, name, rows=100))
    assert_same(by_key(snapshot_of(loaded)), ours, rtol=0, places=False)
    grown = rj.grow(four)
    assert grown.buckets == 2 * four.buckets
    assert_same(by_key(snapshot_of(grown)), theirs, rtol=0, places=False)
    refused = 0
    try:
        rj.lookup(four, {"item": rj.words(np.arange(6))})
    except ValueError as error:
        refused = str(error)
    print(
        json.dumps({"programs": compiled, "rows": rj.counts(four).rows, "overflow": overflow(mesh), "refused": refused})
    )


def by_key(snapshot: Any) -> Any:
    """Shards' rows in the order of one table's."""
    from dataclasses import replace

    uids = np.array(CONFIG.spec.uids)[snapshot.tables.numpy()]
    at = np.lexsort((snapshot.ids.numpy(), uids))
    slots = {name: values[at] for name, values in snapshot.slots.items()}
    return replace(
        snapshot, ids=snapshot.ids[at], tables=snapshot.tables[at], weights=snapshot.weights[at], slots=slots
    )


if __name__ == "__main__":
    main(sys.argv[1])
