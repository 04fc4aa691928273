"""Step time of each codec, fp32 and the peer, in turns, on one batch; checked before the clock runs.

A step is forward, backward of a given gradient, exchange and SGD: the sparse side alone. The checked step puts all
rows into the tables.

Sizes: N ids of a rank's batch (field after field), D dim, R rows of all ranks, W ranks.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from recis_core.bench.exchange.codecs import errors
from recis_core.bench.exchange.peer import Peer
from recis_core.bench.exchange.traffic import LR, engine_of
from recis_core.bench.exchange.workloads import Batch, Workload
from recis_core.nn import EmbeddingEngine
from recis_core.optim import SparseSGD

PEER = "torch all-to-all"  # with nn.EmbeddingBag(sparse=True) + SGD
WARM_UP = 2


def times(workload: Workload, rank: int, codecs: list[str], dim: int, repeats: int) -> dict[str, dict[str, Any]]:
    """{codec or PEER: {"first_s", "step_s": [repeats]}}, each time that of the slowest rank; and the peer's bytes of a
    step. Collective."""
    case = Case(workload, rank, dim)
    runs: dict[str, Callable[[], None]] = {PEER: case.peer()}
    runs |= {codec: case.ours(codec) for codec in codecs}
    found: dict[str, dict[str, Any]] = {name: {"first_s": _timed(run), "step_s": []} for name, run in runs.items()}
    gc.collect()
    gc.disable()
    for turn in range(WARM_UP + repeats):
        for name, run in runs.items():
            seconds = _timed(run)
            if turn >= WARM_UP:
                found[name]["step_s"].append(seconds)
    gc.enable()
    found[PEER] |= case.peer_bytes
    return found


def _timed(run: Callable[[], None]) -> float:
    dist.barrier()
    start = time.perf_counter()
    run()
    seconds = torch.tensor(time.perf_counter() - start)
    dist.all_reduce(seconds, op=dist.ReduceOp.MAX)
    return float(seconds)


class Case:
    """One batch on all ranks and a gradient for it; and what a step on the peer makes of the rows."""

    def __init__(self, workload: Workload, rank: int, dim: int) -> None:
        self.fields, self.rank, self.dim = workload.fields, rank, dim
        self.batch = workload.step(0, 0, rank)
        whole = workload.step(0, 0)
        self.vocabulary = {name: np.unique(whole[name].values().numpy()) for name in self.fields}
        sizes = [len(self.vocabulary[name]) for name in self.fields]
        self.bases = dict(zip(self.fields, np.cumsum([0, *sizes]), strict=False))
        self.index = torch.cat([torch.from_numpy(self._index(name, self.batch[name].values())) for name in self.fields])
        self.present = [self.batch[name].offsets()[0].diff().bool() for name in self.fields]
        random = torch.Generator().manual_seed(rank)
        self.gradients = [torch.randn(len(p), dim, generator=random) for p in self.present]  # [B, D] a field
        self.gradient = self._of_ids(self.gradients)
        self.before = self._initial()
        self.largest = self._largest_gradients()
        self.after = self._after()

    def _index(self, name: str, ids: Tensor) -> np.ndarray:
        return self.bases[name] + np.searchsorted(self.vocabulary[name], ids.numpy())

    def _of_ids(self, by_field: list[Tensor]) -> Tensor:
        """[N, D] from [B, D] a field: rows that have an id."""
        return torch.cat([rows[present] for rows, present in zip(by_field, self.present, strict=True)])

    def _initial(self) -> Tensor:
        """Each row's first value, as a forward inserts it."""
        engine = engine_of(self.fields, self.dim, "fp32")
        with torch.no_grad():
            engine({name: self.batch[name] for name in self.fields})
        return self._rows(engine)

    def _rows(self, engine: EmbeddingEngine) -> Tensor:
        """[R, D]: the rows of all ranks; each on one rank."""
        whole, homes = torch.zeros(len(self), self.dim), torch.zeros(len(self))
        for name in self.fields:
            table = engine.table(name)
            at = torch.from_numpy(self._index(name, table.ids()))
            whole[at], homes[at] = table.embeddings().float(), 1.0
        dist.all_reduce(whole)
        dist.all_reduce(homes)
        if not bool((homes == 1).all()):
            raise AssertionError(f"{int((homes != 1).sum())} rows are on no rank or on two.")
        return whole

    def __len__(self) -> int:
        return sum(map(len, self.vocabulary.values()))

    def _largest_gradients(self) -> Tensor:
        """[R, 1]: Σ over ranks of the largest element of a rank's summed gradient: what an error is measured by."""
        summed = torch.zeros(len(self), self.dim).index_add_(0, self.index, self.gradient)
        largest = summed.abs().amax(1, keepdim=True)
        dist.all_reduce(largest)
        return largest

    def _after(self) -> Tensor:
        run, peer = self._peer()
        run()
        self.peer_bytes = _bytes(peer)
        whole = torch.zeros_like(self.before)
        whole[self.rank :: peer.world] = peer.rows.weight.detach()
        dist.all_reduce(whole)
        return whole

    def _peer(self) -> tuple[Callable[[], None], Peer]:
        peer = Peer(self.before[self.rank :: dist.get_world_size()].clone(), LR)

        def run() -> None:
            peer(self.index).backward(self.gradient)
            peer.step()

        return run, peer

    def peer(self) -> Callable[[], None]:
        return self._peer()[0]

    def ours(self, codec: str) -> Callable[[], None]:
        """A step under a codec, after one whose rows were checked against the peer's."""
        engine = engine_of(self.fields, self.dim, codec)
        optimizer = SparseSGD(engine.sparse_parameters(), lr=LR)
        ids: Batch = {name: self.batch[name] for name in self.fields}

        def step() -> list[Tensor]:
            out = engine(ids)
            outputs = [out[name] for name in self.fields]
            torch.autograd.backward(outputs, self.gradients)
            optimizer.step()
            return outputs

        output = self._of_ids([o.detach() for o in step()])
        self._check(codec, output, self._rows(engine))
        return lambda: _forget(step())

    def _check(self, codec: str, output: Tensor, rows: Tensor) -> None:
        """Outputs and updated rows differ from float32's by no more than the codec's error."""
        forward, backward = errors(codec)
        want = self.before[self.index]
        within(f"{codec}: outputs", output, want, forward * want.abs().amax(1, keepdim=True))
        bound = backward * LR / dist.get_world_size() * self.largest
        within(f"{codec}: rows after a step", rows, self.after, bound + 1e-6 * (1 + self.after.abs()))
        if not bool((rows != self.before).any()):
            raise AssertionError(f"{codec}: a step changed nothing.")


def within(what: str, got: Tensor, want: Tensor, bound: Tensor) -> None:
    over = (got - want).abs() - bound
    if bool((over > 0).any()):
        raise AssertionError(f"{what} are off by up to {float(over.max()):.2e} more than the codec's error.")


def _bytes(peer: Peer) -> dict[str, float]:
    """What a step of it sent, over all ranks. Collective."""
    sent = torch.tensor([float(peer.sent[what]) for what in ("header", "ids", "rows", "gradients")])
    dist.all_reduce(sent)
    return {"forward_bytes": float(sent[:3].sum()), "backward_bytes": float(sent[3])}


def _forget(_: object) -> None:
    return None
