"""Trains one model on MovieLens-100k and ranks all items for each user.

Sizes: U users, T ids of a batch, M items.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from recis_core.bench.movielens import data
from recis_core.bench.movielens.twin import PaddedSASRec
from recis_core.metrics import HitRateAtK, NDCGAtK
from recis_core.models import HSTU, SASRec
from recis_core.models.next_item import ITEM
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam, join
from recis_core.ragged import RaggedTensor

SASREC, HSTU_, TWIN = "SASRec", "HSTU", "SASRec, plain torch"
MODELS = (SASREC, HSTU_, TWIN)


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """The same for all models."""

    dim: Annotated[int, Field(ge=1)] = 64
    layers: Annotated[int, Field(ge=1)] = 2
    heads: Annotated[int, Field(ge=1)] = 2
    longest: Annotated[int, Field(ge=1)] = 50
    """Items of a history."""
    dropout: float = 0.5
    lr: float = 2e-3
    users: Annotated[int, Field(ge=1)] = 64
    """Of a batch."""
    epochs: Annotated[int, Field(ge=1)] = 25
    """Over which lr falls to 0 in a straight line; the weights at the end are tested."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """hr10, ndcg10: of the last ratings. validation_hr10, validation_ndcg10: of those before. loss: of the last epoch."""

    hr10: float
    ndcg10: float
    validation_hr10: float
    validation_ndcg10: float
    loss: float
    cpu_s: float
    wall_s: float


def made(name: str, given: Hyperparameters, items: int, backend: str, seed: int) -> tuple[nn.Module, Any]:
    """A model and its optimizer. The twin begins with the weights that SASRec has of this seed."""
    torch.manual_seed(seed)
    shape = {"layers": given.layers, "heads": given.heads, "max_length": given.longest, "dropout": given.dropout}
    ours: SASRec | HSTU
    if name == HSTU_:
        ours = HSTU(given.dim, times=True, seed=seed, backend=backend, **shape)
    else:
        ours = SASRec(given.dim, seed=seed, backend=backend, **shape)
    everything = torch.arange(items)
    nothing = RaggedTensor(everything[:0], torch.zeros(1, dtype=torch.int64))
    with torch.no_grad():
        ours.embeddings({"history": nothing, "candidates": everything})  # each item has its row
    if name == TWIN:
        rows, _ = ours.embeddings.table(ITEM).lookup(everything)
        twin = PaddedSASRec(ours, rows, given.heads, given.dropout)
        return twin, torch.optim.Adam(twin.parameters(), given.lr)
    dense = torch.optim.Adam(ours.parameters(), given.lr)
    return ours, join(dense, SparseAdam(filter_out_sparse_param(ours), given.lr))


def train(name: str, given: Hyperparameters, ratings: data.Ratings, backend: str, seed: int) -> Found:
    """Full softmax over all items at each place of each history."""
    model, optimizer = made(name, given, ratings.item_count, backend, seed)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, given.epochs * -(-ratings.users // given.users))
    wall, cpu, rng = time.perf_counter(), time.process_time(), np.random.default_rng(seed)
    for _ in range(given.epochs):
        losses = []
        for each in batches(ratings, given, rng):
            losses.append(step(model, optimizer, each, ratings.item_count))
            schedule.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    validation, test = (ranked(model, ratings, given, left=left) for left in (2, 1))
    return Found(
        hr10=test[0], ndcg10=test[1], validation_hr10=validation[0], validation_ndcg10=validation[1],
        loss=float(np.mean(losses)), cpu_s=cpu, wall_s=wall,
    )  # fmt: skip


def batches(ratings: data.Ratings, given: Hyperparameters, rng: np.random.Generator) -> list[data.Sequences]:
    users = rng.permutation(ratings.users)
    return [
        data.training(ratings, users[i : i + given.users], given.longest) for i in range(0, len(users), given.users)
    ]


def step(model: nn.Module, optimizer: Any, sequences: data.Sequences, items: int) -> float:
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(inputs(sequences, items)), sequences.next)
    loss.backward()
    optimizer.step()
    return loss.item()


def ranked(model: nn.Module, ratings: data.Ratings, given: Hyperparameters, *, left: int) -> tuple[float, float]:
    """HR@10 and NDCG@10 of each user's rating before the end, `left` from it, among all items; rated ones stay in."""
    model.eval()
    hits, gains = HitRateAtK(10), NDCGAtK(10)
    for users in np.split(np.arange(ratings.users), range(256, ratings.users, 256)):
        sequences = data.held_out(ratings, users, given.longest, left=left)
        with torch.no_grad():
            scores = model(inputs(sequences, ratings.item_count), last=True)
        labels = F.one_hot(sequences.next, ratings.item_count)
        of_each = torch.from_numpy(users).repeat_interleave(ratings.item_count)
        for metric in (hits, gains):
            metric.update(scores.flatten(), labels.flatten(), of_each)
    return float(hits.compute()), float(gains.compute())


def inputs(sequences: data.Sequences, items: int) -> dict[str, Any]:
    candidates = torch.arange(items)
    return {"history": sequences.history, "timestamps": sequences.timestamps, "candidates": candidates}
