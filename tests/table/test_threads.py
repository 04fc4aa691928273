"""Threads that train one table at a time: every id reads its own row, and no gradient is lost."""

import os
import threading

import pytest
import torch

from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseSGD

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
THREADS, STEPS, IDS = 4, 60 if FULL else 15, 100


def _new(backend):
    return EmbeddingEngine({"a": EmbeddingOption(8, block_size=64, backend=backend)})


@pytest.mark.parametrize("backend", ["torch", "numba", *(["jax"] if FULL else [])])
def test_training_forwards_of_several_threads(backend):
    engine, fresh = _new(backend), _new(backend)
    optimizer = SparseSGD(engine.sparse_parameters(), lr=1.0)
    failures: list[BaseException] = []

    def work(seed):
        generator = torch.Generator().manual_seed(seed)
        try:
            for _ in range(STEPS):
                engine({"a": torch.randint(2**60, (IDS,), generator=generator)})["a"].sum().backward()
        except BaseException as error:  # raised where the thread is joined
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    ids = engine.table("a").ids()
    assert len(ids) == THREADS * STEPS * IDS
    fresh({"a": ids})
    for each in (engine, fresh):
        each.eval()
    want = fresh({"a": ids})["a"]
    assert torch.equal(engine({"a": ids})["a"], want)
    optimizer.step()
    assert torch.equal(engine({"a": ids})["a"], want - 1)
