"""Two towers on users' choices out of all items: in-batch and drawn negatives, with log q."""

from __future__ import annotations

from typing import Any

import torch

from recis_core.bench.quality.case import Case, Trained
from recis_core.bench.quality.static_engine import with_static_tables
from recis_core.bench.quality.training import fit
from recis_core.io import SyntheticChoices
from recis_core.models import ItemIndex, NegativeSampler, Retrieval, TwoTower

ROWS, BATCH, LR, NEGATIVES, PLACES = 400_000, 256, 5e-3, 64, 10


def towers_of(seed: int) -> Any:
    torch.manual_seed(seed)
    return TwoTower(["user"], ["item"], 16, width=16, hidden=(), seed=seed)


def reached(towers: Any, log: SyntheticChoices, seconds: float) -> Trained:
    index = ItemIndex.of(towers, log.items)
    towers.eval()
    top, _ = index.top(towers.users({"user": log.users}), PLACES)
    figure = f"recall@{PLACES}"
    best = log.best_recall(log.users, PLACES)
    return Trained(figures={figure: log.recall(log.users, top)}, best={figure: best}, seconds=seconds)


def trained(seed: int) -> Trained:
    log, towers = SyntheticChoices(300, 300, seed=seed), towers_of(seed)
    sampler = NegativeSampler(towers.embeddings.table("item"), seed=seed)
    seconds = fit(towers, list(log.dataset(BATCH, stop=ROWS)), Retrieval(towers, sampler, negatives=NEGATIVES), LR)
    return reached(towers, log, seconds)


def peer(seed: int) -> Trained:
    """In plain torch: the softmax over all items, which sampling only approaches, on nn.Embedding."""
    log, towers = SyntheticChoices(300, 300, seed=seed), towers_of(seed)
    data = list(log.dataset(BATCH, stop=ROWS))
    with_static_tables(towers, [{"user": log.users, "item": log.items}])
    order = log.items.argsort()

    def loss(batch: dict[str, Any]) -> torch.Tensor:
        users, items = towers.vectors(batch, {"item": log.items[order]})
        return torch.nn.functional.cross_entropy(users @ items.T, torch.searchsorted(log.items[order], batch["item"]))

    return reached(towers, log, fit(towers, data, loss, LR))


CASE = Case(
    name="TwoTower", data=f"SyntheticChoices, {ROWS:,} rows", train=trained, below_best={"recall@10": 0.03},
    peer=peer, peer_name="softmax over all items, nn.Embedding", below_peer={"recall@10": 0.02},
)  # fmt: skip
