"""A table squeezed to a hundredth on the device and a tenth in host memory, the rest on disk, trains to the same bits.

A run takes every two choices once, and few steps; RECIS_TEST_FULL=1 takes all of them, the inputs in turn, and 500 steps. Of
backends that compile, where a case takes 15 s, dtype and reduce_by go in turn too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from recis_core.backends.records import Snapshot
from recis_core.backends.selection import NAMES
from recis_core.nn import CacheConfig, EmbeddingEngine, Policy
from recis_core.optim import SparseAdagrad, SparseAdam, SparseOptimizer, SparseRowWiseAdagrad, SparseSGD
from recis_core.options.cache_policy import Ttl
from tests.contract.compare import assert_same
from tests.pairwise import pairwise
from tests.tiers.inputs import batches_of
from tests.tiers.training import engine_of, held, tiers_of, train_ahead
from tests.training.loop import train

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
STEPS = dict.fromkeys(NAMES, 500) if FULL else {"torch": 30, "numba": 60, "jax": 16, "pallas": 16}
DEVICE, HOST = 40, 400 if FULL else 60  # rows, of some 4,000 after 500 steps
INPUTS = ("random", "clicks", "planted")

Optimizers = dict[str, Callable[[EmbeddingEngine], SparseOptimizer]]
OPTIMIZERS: Optimizers = {
    "adam": lambda engine: SparseAdam(engine.sparse_parameters(), lr=0.05, weight_decay=0.01),
    "adagrad": lambda engine: SparseAdagrad(engine.sparse_parameters(), lr=0.05, initial_accumulator_value=0.1),
    "momentum": lambda engine: SparseSGD(engine.sparse_parameters(), lr=0.01, momentum=0.9),
    "rowwise": lambda engine: SparseRowWiseAdagrad(engine.sparse_parameters(), lr=0.05),
}


class Backwards(Policy):
    """A custom policy, and a bad one: what was used last leaves first."""

    def touch(self, scores: np.ndarray, rows: np.ndarray, counts: np.ndarray, tick: int) -> None:
        scores[rows] = -tick


class Calls:
    """A clock that ticks by being looked at."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> float:
        self.now += 1
        return self.now


POLICIES: dict[str, Callable[[], str | Policy]] = {
    "lru": lambda: "lru",
    "lfu": lambda: "lfu(.9)",
    "ttl": lambda: Ttl(20, Calls()),
    "lookahead": lambda: "lookahead",
    "custom": Backwards,
}


@dataclass(frozen=True)
class Case:
    backend: str
    policy: str
    prefetch: int
    optimizer: str
    dtype: torch.dtype
    reduce_by: str
    inputs: str

    def __str__(self) -> str:
        return "-".join(str(value).removeprefix("torch.") for value in astuple(self))


COMPILED = {"jax": ("adam", torch.float32, "worker"), "pallas": ("rowwise", torch.bfloat16, "id")}
PREFETCH, GRADIENTS = (0, 1, 8), tuple(product((torch.float32, torch.bfloat16), ("worker", "id")))


def cases() -> Iterator[Case]:
    """Each backend's inputs by number, so that each choice meets each input."""
    chosen = product(NAMES, enumerate(POLICIES), enumerate(PREFETCH), enumerate(OPTIMIZERS), enumerate(GRADIENTS))
    for number, (backend, (p, policy), (f, prefetch), (o, optimizer), (g, (dtype, reduce_by))) in enumerate(chosen):
        in_turn = (p + f + o) % len(GRADIENTS) == g
        in_a_run = COMPILED.get(backend) == (optimizer, dtype, reduce_by)
        if backend not in COMPILED or in_turn or in_a_run:
            yield Case(backend, policy, prefetch, optimizer, dtype, reduce_by, INPUTS[(number + number // 3) % 3])


CASES = list(cases())


def in_a_run() -> set[Case]:
    """Each two choices once; of backends that compile for seconds one optimizer, and under it each policy."""
    fast = [case for case in CASES if case.backend not in COMPILED]
    slow = [c for c in CASES if COMPILED.get(c.backend) == (c.optimizer, c.dtype, c.reduce_by)]
    rows = [(c.backend, c.policy) if c.prefetch == 8 else (c.backend, c.prefetch) for c in slow]
    chosen = [fast[k] for k in pairwise([astuple(case) for case in fast])] + [slow[k] for k in pairwise(rows)]
    return set(chosen)


CHOSEN = in_a_run()
PARAMETERS = [pytest.param(case, id=str(case), marks=[] if case in CHOSEN else pytest.mark.full) for case in CASES]


@cache
def plain(case: Case) -> tuple[list[float], Snapshot]:
    """Losses, and the table, of a run without tiers."""
    engine = build(case, None)
    losses = train(engine, OPTIMIZERS[case.optimizer](engine), batches_of(case.inputs, STEPS[case.backend]))
    return losses, engine.table("f").snapshot()


def build(case: Case, config: CacheConfig | None) -> EmbeddingEngine:
    return engine_of(config, backend=case.backend, dtype=case.dtype, grad_reduce_by=case.reduce_by, block_size=8192)


def without_tiers(case: Case) -> Case:
    return Case(case.backend, "", 0, case.optimizer, case.dtype, case.reduce_by, case.inputs)


@pytest.mark.parametrize("case", PARAMETERS)
def test_same_bits(case: Case, tmp_path: Path) -> None:
    batches = batches_of(case.inputs, STEPS[case.backend])
    losses, table = plain(without_tiers(case))
    config = CacheConfig(
        device_rows=DEVICE, host_rows=HOST, disk=str(tmp_path), policy=POLICIES[case.policy](), prefetch=case.prefetch
    )
    engine = build(case, config)
    assert train_ahead(engine, OPTIMIZERS[case.optimizer](engine), batches, case.prefetch) == losses
    got = engine.table("f").snapshot()
    assert_same("ids", got.ids, table.ids)
    assert_same("weights", got.weights, table.weights)
    assert got.slots.keys() == table.slots.keys()
    for name, values in table.slots.items():
        assert_same(name, got.slots[name], values)
    assert held(engine) == 0
    assert_tiers_were_needed(engine)


def assert_tiers_were_needed(engine: EmbeddingEngine) -> None:
    """Rows went down to the disk and came back up."""
    state = tiers_of(engine)
    assert len(state.device) <= DEVICE
    assert len(state.lower.host) <= HOST
    counts = state.stats.counts
    assert counts["evicted"] > 0
    if FULL or state.backend.name not in COMPILED:
        assert min(counts["spilled"], counts["hits_disk"]) > 0


def test_a_run_holds_every_two_choices_of_the_fast_backends() -> None:
    for name in NAMES:
        assert {case.policy for case in CHOSEN if case.backend == name} == set(POLICIES)
    fast = [case for case in CHOSEN if case.backend not in COMPILED]
    assert {(case.policy, case.prefetch) for case in fast} == set(product(POLICIES, PREFETCH))
    assert {(case.optimizer, case.inputs) for case in fast} == set(product(OPTIMIZERS, INPUTS))


@pytest.mark.parametrize("name", NAMES)
def test_all_cases_hold_each_policy_with_each_prefetch_and_optimizer(name: str) -> None:
    own = [case for case in CASES if case.backend == name]
    assert {(c.policy, c.prefetch, c.optimizer) for c in own} == set(product(POLICIES, PREFETCH, OPTIMIZERS))
    for chosen in product(POLICIES, OPTIMIZERS):
        assert len({(c.dtype, c.reduce_by) for c in own if (c.policy, c.optimizer) == chosen}) >= 3
    for chosen in product(POLICIES, PREFETCH):
        assert {(c.dtype, c.reduce_by) for c in own if (c.policy, c.prefetch) == chosen} == set(GRADIENTS)
