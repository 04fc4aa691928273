"""python -m bench jax: a training step of recis_core.jax beside flax's nn.Embed under optax.adam, in one run.

Both are one jitted program that is given its state to write into: rows, means of bags, loss, gradient, and Adam. nn.Embed knows
every id beforehand, as an index below its size, and optax steps all of its rows; ours finds 64-bit ids in a table that holds
the whole vocabulary, and steps the rows of the batch. Rows after a step are compared before it is timed.

Sizes: N ids, B bags, D dim, V ids of the vocabulary.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

import recis_core.jax as rj
from recis_core.bench import rows
from recis_core.bench.cases import Bags, bags, ids_of
from recis_core.bench.provenance import provenance

COLUMNS = ("ids", "vocabulary", "dim", "name", "step_ms", "ratio", "first_call_s", "state_mib")
LR = 1e-2
EPS = 1e-16  # next to nothing, for the two add it at different places: to the root, and to the corrected root


@dataclass(frozen=True, kw_only=True)
class JaxConfig:
    """One training step in JAX: a dynamic table beside a static one with a dense gradient."""

    ids: tuple[Literal["zipf", "uniform"], ...] = ("zipf",)
    vocabularies: tuple[Annotated[int, Field(ge=1)], ...] = (10_000, 100_000, 1_000_000)
    dim: Annotated[int, Field(ge=1)] = 32
    n: Annotated[int, Field(ge=1)] = 8_192
    """Ids of a batch."""
    bags: Annotated[int, Field(ge=1)] = 1_024
    batches: Annotated[int, Field(ge=1)] = 4
    """Different batches, which take turns."""
    repeats: Annotated[int, Field(ge=1)] = 15
    """Timed turns of each competitor."""
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


def loss_of(values: jax.Array, bags: int) -> jax.Array:
    """Of rows [N, D] in bags of equal length: each bag's mean is to add up to 1."""
    means = values.reshape(bags, -1, values.shape[1]).mean(1)
    return ((means.sum(1) - 1) ** 2).mean()


class Ours:
    name = "recis_core.jax"

    def __init__(self, config: JaxConfig, vocabulary: int) -> None:
        table = rj.TableConfig("item", config.dim, rj.Adam(lr=LR, eps=EPS), rows=vocabulary + config.n)
        self.state = filled(rj.create(table), vocabulary, config.n)
        self.run = jax.jit(partial(self._run, bags=config.bags), donate_argnums=0)

    @staticmethod
    def _run(state: rj.TableState, ids: jax.Array, bags: int) -> Any:
        state, values, ticket = rj.lookup(state, ids)
        loss, grads = jax.value_and_grad(loss_of)(values, bags)
        return rj.update(state, ticket, grads), loss

    def inputs(self, batch: Bags) -> jax.Array:
        """Made beforehand, as a reader's thread would."""
        return rj.words(batch.ids)

    def rows_of(self, batch: Bags) -> np.ndarray:
        return np.asarray(rj.find(self.state, rj.words(batch.ids)))


class Flax:
    name = "flax nn.Embed, optax.adam"

    def __init__(self, config: JaxConfig, vocabulary: int, first: np.ndarray) -> None:
        self.embed, self.adam = nn.Embed(vocabulary, config.dim), optax.adam(LR, eps=EPS)
        params = {"params": {"embedding": jnp.array(first)}}
        self.state = params, self.adam.init(params)
        self.run = jax.jit(partial(self._run, bags=config.bags), donate_argnums=0)

    def _run(self, state: Any, index: jax.Array, bags: int) -> Any:
        params, moments = state
        loss, grads = jax.value_and_grad(lambda p: loss_of(self.embed.apply(p, index), bags))(params)
        changes, moments = self.adam.update(grads, moments)
        return (optax.apply_updates(params, changes), moments), loss

    def inputs(self, batch: Bags) -> jax.Array:
        return jnp.asarray(batch.index.numpy().astype(np.int32))

    def rows_of(self, batch: Bags) -> np.ndarray:
        return np.asarray(self.embed.apply(self.state[0], self.inputs(batch)))


def filled(state: rj.TableState, vocabulary: int, chunk: int) -> rj.TableState:
    """The state with every id of the vocabulary."""
    insert = jax.jit(lambda state, ids, valid: rj.lookup(state, ids, valid)[0], donate_argnums=0)
    for beg in range(0, vocabulary, chunk):
        ids = ids_of(torch.arange(beg, min(beg + chunk, vocabulary)))
        state = insert(state, *rj.padded(ids, chunk))
    rj.check(state)
    return state


def run(argv: list[str]) -> int:
    config = tyro.cli(JaxConfig, args=argv, prog="python -m bench jax")
    found = [row for ids in config.ids for size in config.vocabularies for row in case(config, ids, size)]
    rows.show(found, COLUMNS, f"{config.n:,} ids, {config.bags:,} bags; ratio of flax's time to ours")
    rows.write(found, config.out)
    return 0


def case(config: JaxConfig, ids: str, vocabulary: int) -> list[dict[str, Any]]:
    seeds = range(config.seed, config.seed + config.batches)
    made = [bags(ids, n=config.n, b=config.bags, vocabulary=vocabulary, seed=seed) for seed in seeds]
    ours = Ours(config, vocabulary)
    every = ids_of(torch.arange(vocabulary))
    flax = Flax(config, vocabulary, np.asarray(rj.find(ours.state, rj.words(every))))
    both: tuple[Ours | Flax, ...] = (ours, flax)
    firsts = [timed(each, each.inputs(made[0])) for each in both]
    check(ours.rows_of(made[0]), flax.rows_of(made[0]))
    times = turns(both, made, config.repeats)
    where = {"ids": ids, "vocabulary": vocabulary, "dim": config.dim, "n": config.n, **provenance(config.seed)}
    return [
        {
            **where, "name": each.name, "step_ms": 1e3 * mine, "ratio": times[1] / mine, "first_call_s": first,
            "state_mib": sum(x.nbytes for x in jax.tree.leaves(each.state)) / 2**20,
        }
        for each, mine, first in zip(both, times, firsts, strict=True)
    ]  # fmt: skip


def step(competitor: Ours | Flax, inputs: jax.Array) -> None:
    competitor.state, loss = competitor.run(competitor.state, inputs)
    jax.block_until_ready((competitor.state, loss))


def timed(competitor: Ours | Flax, inputs: jax.Array) -> float:
    began = time.perf_counter()
    step(competitor, inputs)
    return time.perf_counter() - began


def turns(competitors: tuple[Ours | Flax, ...], batches: list[Bags], repeats: int) -> list[float]:
    """Median seconds of each, taking turns; the first turns of each batch are not counted."""
    inputs = [[each.inputs(batch) for batch in batches] for each in competitors]
    times: list[list[float]] = [[] for _ in competitors]
    for turn in range(repeats + len(batches)):
        for mine, each, given in zip(times, competitors, inputs, strict=True):
            mine.append(timed(each, given[turn % len(batches)]))
    return [statistics.median(mine[len(batches) :]) for mine in times]


def check(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Raises RuntimeError unless rows after a step agree to 1e-5 of the largest."""
    off = float(np.abs(ours - theirs).max())
    if not off <= 1e-5 * float(np.abs(theirs).max()):
        raise RuntimeError(f"rows after a step differ by {off:.3g}: nothing was timed.")
