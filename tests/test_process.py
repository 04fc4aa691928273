"""What a process can and cannot do with tables that another one made: forked, spawned, pickled."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from copy import copy
from typing import Any

import pytest
import torch

from recis_core.backends.errors import RecisError
from recis_core.nn import EmbeddingEngine, EmbeddingOption, HashTable
from recis_core.nn.prefetcher import Prefetcher
from recis_core.optim import SparseSGD, join

FULL = os.environ.get("RECIS_TEST_FULL") == "1"


def forked(backend: str, *, builds: bool) -> dict[str, str]:
    env = os.environ | {"RECIS_BACKEND": backend, "OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
    env |= {"RECIS_PALLAS_INTERPRET": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    argv = [sys.executable, "-W", "ignore", "-m", "tests.forking", "builds" if builds else "-"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return dict(line.split(" = ", 1) for line in done.stdout.splitlines())


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "backend",
    ["torch", "numba", pytest.param("jax", marks=pytest.mark.full), pytest.param("pallas", marks=pytest.mark.full)],
)
def test_a_forked_child_is_told_at_its_first_use(backend: str) -> None:
    """Two threads ran in the parent, which the child lacks; a worker that only inherits a model is left alone."""
    said = forked(backend, builds=backend == "torch" or FULL)
    assert said.pop("workers") == str(list(range(8)))
    assert said.pop("parent") == "9000"
    if (new := said.pop("new", None)) is not None:
        wanted = "ok" if backend in ("torch", "numba") else "BackendUnavailable: RECIS_BACKEND"
        assert new.startswith(wanted), new
    assert len(said) == 10
    for name, words in said.items():
        assert words.startswith("RecisError"), (name, words)
        assert "was made in process" in words, (name, words)
        assert "spawn" in words, (name, words)


def members() -> dict[str, Any]:
    engine = EmbeddingEngine({"a": EmbeddingOption(4)}, overlap=False)
    sparse = SparseSGD(engine.sparse_parameters(), lr=0.1)
    tower = torch.nn.Linear(4, 1)
    return {
        "engine": engine,
        "table": HashTable([4]),
        "storage": engine.table("a").physical,
        "sparse": sparse,
        "joint": join(torch.optim.SGD(tower.parameters(), lr=0.1), sparse),
        "model": torch.nn.Sequential(torch.nn.Linear(1, 1), engine),
        "prefetcher": Prefetcher(engine, [], depth=0),
        "step": sparse.step,
        "scheduler": torch.optim.lr_scheduler.ConstantLR(sparse),
    }


@pytest.mark.parametrize("name", sorted(members()))
def test_what_cannot_go_to_another_process_says_what_to_do(name: str) -> None:
    with pytest.raises(RecisError, match=r"load_state_dict\(\) there|load this one's state_dict"):
        pickle.dumps(members()[name])


@pytest.mark.parametrize("name", ["engine", "table", "sparse", "joint"])
def test_a_shallow_copy_too(name: str) -> None:
    with pytest.raises(RecisError, match=r"load_state_dict\(\) there|load this one's state_dict"):
        copy(members()[name])


def test_a_spawned_process_is_not_begun() -> None:
    engine = members()["engine"]
    with pytest.raises(RecisError, match=r"load_state_dict\(\) there|load this one's state_dict"):
        multiprocessing.get_context("spawn").Process(target=print, args=(engine,)).start()
