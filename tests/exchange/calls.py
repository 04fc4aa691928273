"""Every call that talks to other ranks, for tests in which ranks are in different ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from recis_core.exchange import global_mean, in_step
from recis_core.exchange.gathering import gathered, gathered_json, summed
from recis_core.framework.evaluation import evaluate
from recis_core.nn import EmbeddingEngine, EmbeddingOption, HashTable
from recis_core.optim import clip_grad_norm_
from recis_core.serialize import load_model, load_tables, tables_sha256
from recis_core.serialize.shared_state import latest_shared_state, save_shared_state
from recis_core.serialize.tables import snapshot_tables
from tests.exchange.models import Model, batch, optimizer_of, share

# What the words of each call say, as far as other calls' do not.
WORDS = {
    "forward": "a training forward",
    "eval_forward": "a forward in eval",
    "table_forward": "a training forward",
    "step": "the exchange of gradients",
    "clip": "the exchange of gradients",
    "sync": "the exchange of gradients",
    "unscale": "asking whether gradients are finite",
    "bare_step": "step, without a gradient",
    "digest": "tables_sha256",
    "state_dict": "a full state_dict",
    "save": "save_shared_state",
    "latest": "latest_shared_state",
    "load_tables": "load_tables",
    "load_model": "load_model",
    "in_step": "in_step",
    "global_mean": "global_mean",
    "gathered": "gathering results",
    "summed": "gathering results",
    "snapshot": "a snapshot of tables",
    "evaluate": "a forward in eval",
    "new_engine": "making an engine",
    "other_engine": "a training forward",
}
NEEDS_A_GRADIENT = {"step", "clip", "sync", "unscale"}
# These begin alike; the ranks differ later, if at all: a forward of one table asks the storage that all of them share.
ALIKE = [{"forward", "table_forward"}, {"step", "clip", "sync"}, {"gathered", "summed"}, {"eval_forward", "evaluate"}]


class Calls:
    """Each a method of that name, on a model of this process."""

    def __init__(self, rank: int, world: int, folder: str, **option: Any) -> None:
        self.rank, self.world, self.folder, self.number, self.steps = rank, world, folder, 0, 0
        self.model = Model(**option)
        self.optimizer = optimizer_of(self.model)
        self.engine = self.model.engine
        self.other = EmbeddingEngine({"other": EmbeddingOption(4)})
        self.good_step()
        dcp.save({"model": self.model.state_dict()}, checkpoint_id=f"{folder}/dcp")
        self.save()

    def run(self, name: str) -> Any:
        call: Callable[[], Any] = getattr(self, name)
        return call()

    def data(self) -> dict[str, Any]:
        self.number += 1
        return batch(self.number % 7, share(self.rank, self.world))

    def good_step(self) -> None:
        self.optimizer.zero_grad()
        self.backward()
        self.optimizer.step()
        self.steps += 1

    def backward(self) -> None:
        self.model(self.data()).tanh().mean().backward()

    def forward(self) -> None:
        self.model(self.data())

    def eval_forward(self) -> None:
        self.model.eval()
        try:
            self.model(self.data())
        finally:
            self.model.train()

    def table_forward(self) -> None:
        self.engine.table("user")(torch.arange(5))

    def other_engine(self) -> None:
        self.other({"other": torch.arange(3)})

    def step(self) -> None:
        self.optimizer.step()

    bare_step = step

    def clip(self) -> None:
        clip_grad_norm_(self.optimizer, 1.0)

    clip_again = clip

    def sync(self) -> None:
        self.engine.sync_gradients()

    def unscale(self) -> None:
        for handle in self.optimizer.sparse.handles():
            assert handle.grad is not None

    def digest(self) -> str:
        return tables_sha256(self.engine.sparse_parameters())

    def state_dict(self) -> None:
        get_model_state_dict(self.engine, options=StateDictOptions(full_state_dict=True))

    def save(self) -> None:
        save_shared_state(f"{self.folder}/states", self.steps, {"x": {"y": 1}}, {"z": {"w": 2}}, self.engine.exchange)

    def latest(self) -> None:
        latest_shared_state(f"{self.folder}/states", self.engine.exchange)

    def load_tables(self) -> None:
        load_tables(f"{self.folder}/dcp", self.model)

    def load_model(self) -> None:
        load_model(f"{self.folder}/dcp", self.model)

    def in_step(self) -> None:
        next(in_step([self.number]))

    def global_mean(self) -> None:
        global_mean(torch.zeros(()), 3)

    def gathered(self) -> None:
        gathered_json(self.engine.exchange.channel, {"rank": self.rank})

    def summed(self) -> None:
        summed(self.engine.exchange.channel, torch.ones(2))
        gathered(self.engine.exchange.channel, torch.ones(2, 3))

    def snapshot(self) -> None:
        snapshot_tables(self.engine.sparse_parameters())

    def evaluate(self) -> None:
        evaluate(self.model, [self.data()])

    def new_engine(self) -> None:
        HashTable([4], name="another")
