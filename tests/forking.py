"""Run by tests/test_process.py: forks after training, and says what each child met, a line each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam, join

SECONDS = 100  # a child that takes longer hangs


def made() -> tuple[EmbeddingEngine, Any]:
    engine = EmbeddingEngine({"a": EmbeddingOption(8), "b": EmbeddingOption(8)})
    tower = torch.nn.Linear(8, 1)
    return engine, join(torch.optim.SGD(tower.parameters(), lr=0.1), SparseAdam(engine.sparse_parameters(), lr=0.1))


def step(engine: EmbeddingEngine, optimizer: Any) -> None:
    out = engine({"a": torch.arange(5000), "b": torch.arange(9000) * 7})
    (out["a"].sum() + out["b"].sum()).backward()
    optimizer.step()
    optimizer.zero_grad()


def in_child(work: Callable[[], Any]) -> str:
    """What a forked child says: "ok", or its error."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        try:
            work()
            said = "ok"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writes, said.encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    return said or f"nothing, and ended with status {status}"


class Numbers(Dataset[int]):
    """It holds a model, and asks nothing of it."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        return index


def uses(engine: EmbeddingEngine, optimizer: Any) -> dict[str, Callable[[], Any]]:
    table, ids = engine.table("a"), torch.arange(4)
    return {
        "forward": lambda: engine({"a": ids, "b": ids}),
        "step": lambda: step(engine, optimizer),
        "optimizer.step": optimizer.step,
        "insert": lambda: table.insert(ids, torch.zeros(4, 8)),
        "clear": table.clear,
        "ids": table.ids,
        "stats": engine.stats,
        "state_dict": engine.state_dict,
        "flush": engine.flush,
        "table": lambda: table(ids),
    }


def main(backend: str, builds: bool) -> None:
    engine, optimizer = made()
    step(engine, optimizer)
    for name, use in uses(engine, optimizer).items():
        print(f"{name} = {in_child(use)}")
    if builds:
        print(f"new = {in_child(lambda: step(*made()))}")
    loaded = [
        int(x) for batch in DataLoader(Numbers(engine), num_workers=2, multiprocessing_context="fork") for x in batch
    ]
    print(f"workers = {sorted(loaded)}")
    step(engine, optimizer)
    print(f"parent = {len(engine.table('b').ids())}")


if __name__ == "__main__":
    main(os.environ["RECIS_BACKEND"], sys.argv[1] == "builds")
