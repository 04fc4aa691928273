"""python -m bench step --workload dynamicemb: the published benchmark of NVIDIA's dynamicemb, on our backends.

10 tables, 1,048,570 indices a step, dim 128, fp32, ids by a power law of exponent 1.05, no pooling; every id is in its
table before the clock runs. Beside torch.nn.Embedding(sparse=True), static tables with indices mapped beforehand.

Sizes: T tables, N ids of a step over all tables, R rows of a table, D dim.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.bench import rows
from recis_core.bench.cases import ids_of, zipf
from recis_core.bench.competitors import LR
from recis_core.bench.provenance import provenance
from recis_core.nn import EmbeddingEngine, EmbeddingOption, NormalInitializer
from recis_core.optim import SparseAdam, SparseSGD

TABLES, INDICES, DIM, ROWS, ALPHA = 10, 1_048_570, 128, 1_600_000, 1.05
# ms per step on one H100, all in HBM: forward, backward (with update), train, eval; as their authors published them.
PUBLISHED = {
    "sgd": {"dynamicemb": (1.33, 0.59, 1.92, 0.64), "FBGEMM TBE": (0.34, 0.61, 0.96, 0.41)},
    "adam": {"dynamicemb": (1.34, 0.85, 2.19, 0.64), "FBGEMM TBE": (0.35, 1.00, 1.35, 0.46)},
}
COLUMNS = ("optimizer", "name", "forward_ms", "backward_ms", "train_ms", "eval_ms", "unique", "where")
NAMES = ("forward_ms", "backward_ms", "train_ms", "eval_ms")


@dataclass
class Player:
    """train: seconds of (forward, backward with update). evaluate: one forward, no gradient."""

    name: str
    train: Callable[[], tuple[float, float]]
    evaluate: Callable[[], None]
    outputs: Callable[[], dict[str, Tensor]]
    times: list[tuple[float, float, float, float]] = field(default_factory=list)


def run(
    backends: tuple[str, ...], optimizers: tuple[str, ...], *, rows_per_table: int, indices: int, repeats: int,
    seed: int, out: str | None,
) -> int:  # fmt: skip
    """Both optimizers, each backend beside torch; rows as bench.rows."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: list[dict[str, Any]] = []
    for optimizer in optimizers:
        check_memory(device, rows_per_table, optimizer)
        batch = batch_of(rows_per_table, indices, device, seed)
        unique = sum(len(index.unique()) for index in batch.values())
        facts = {"bench": "dynamicemb", "optimizer": optimizer, "tables": TABLES, "dim": DIM, "indices": indices}
        facts |= {"rows_per_table": rows_per_table, "unique": unique, "where": "here", "repeats": repeats}
        for make in (static_tables, *(lambda *a, b=name: engine(*a, b) for name in backends)):
            player = make(batch, rows_per_table, optimizer, device)
            play(player, repeats, device)
            times = {n: 1e3 * statistics.median(t) for n, t in zip(NAMES, zip(*player.times, strict=True), strict=True)}
            found.append({**facts, "name": player.name, **times, **provenance(seed)})
            del player
            gc.collect()
        rows.write(found[-1 - len(backends) :], out)
        published = PUBLISHED[optimizer].items()
        found += [
            {"optimizer": optimizer, "name": n, **dict(zip(NAMES, ms, strict=True)), "where": "published, H100"}
            for n, ms in published
        ]
    rows.show(found, COLUMNS, f"{TABLES} tables of {rows_per_table} rows, {indices} indices, dim {DIM}, no pooling")
    return 0


def check_memory(device: str, rows_per_table: int, optimizer: str) -> None:
    """Weights and slots of one competitor, and a third for gradients and what a backend needs beside.

    Raises:
      SystemExit: they do not fit.
    """
    copies = {"sgd": 1, "adam": 3}[optimizer]
    needed = TABLES * rows_per_table * DIM * 4 * (copies + 1)
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else pages
    if needed > free:
        raise SystemExit(
            f"{optimizer} on {TABLES} tables of {rows_per_table} rows needs about {needed / 1e9:.1f} GB of {device} memory;"
            f" {free / 1e9:.1f} are free. Use --rows-per-table {int(rows_per_table * free / needed * 0.8)} or fewer."
        )


def batch_of(rows_per_table: int, indices: int, device: str, seed: int) -> dict[str, Tensor]:
    """int64 [N / T] indices of each table."""
    rng = np.random.default_rng(seed)
    each = indices // TABLES
    return {f"t{i}": torch.from_numpy(zipf(rng, ALPHA, rows_per_table, each)).to(device) for i in range(TABLES)}


def static_tables(batch: dict[str, Tensor], rows_per_table: int, optimizer: str, device: str) -> Player:
    layers = torch.nn.ModuleDict(
        {name: torch.nn.Embedding(rows_per_table, DIM, sparse=True, device=device) for name in batch}
    )
    opt = {"sgd": torch.optim.SGD, "adam": torch.optim.SparseAdam}[optimizer](list(layers.parameters()), lr=LR)
    return player_of("torch Embedding", lambda: {n: layers[n](index) for n, index in batch.items()}, opt)


def engine(batch: dict[str, Tensor], rows_per_table: int, optimizer: str, device: str, backend: str) -> Player:
    """One call for all tables; a plain tensor of ids is not pooled: of equal attributes, they share a physical one."""
    option = EmbeddingOption(
        DIM, backend=backend, block_size=TABLES * rows_per_table, initializer=NormalInitializer(0, 0.01),
        device=torch.device(device),
    )  # fmt: skip
    layer = EmbeddingEngine(dict.fromkeys(batch, option))
    with torch.no_grad():
        for part in torch.arange(rows_per_table, device=device).split(1 << 16):
            layer(dict.fromkeys(batch, ids_of(part)))
    ids = {name: ids_of(index) for name, index in batch.items()}
    check(layer, ids)
    opt = {"sgd": SparseSGD, "adam": SparseAdam}[optimizer](layer.sparse_parameters(), lr=LR)
    return player_of(f"recis {backend}", lambda: layer(ids), opt)


def player_of(name: str, forward: Callable[[], dict[str, Tensor]], opt: Any) -> Player:
    grads: dict[str, Tensor] = {}

    def train() -> tuple[float, float]:
        opt.zero_grad()
        start = time.perf_counter()
        out = forward()
        synchronize()
        middle = time.perf_counter()
        for key, value in out.items():
            grads.setdefault(key, torch.full_like(value, 1e-3))
        torch.autograd.backward(list(out.values()), [grads[key] for key in out])
        opt.step()
        synchronize()
        return middle - start, time.perf_counter() - middle

    def evaluate() -> None:
        with torch.no_grad():
            forward()
        synchronize()

    return Player(name, train, evaluate, forward)


def check(layer: EmbeddingEngine, ids: dict[str, Tensor]) -> None:
    """What comes out are the tables' rows, read another way."""
    got = layer(ids)
    for name, wanted in ids.items():
        table = layer.table(name)
        rows = table.embeddings()[torch.searchsorted(table.ids(), wanted[:64].cpu())]
        torch.testing.assert_close(got[name].detach()[:64].cpu().reshape(rows.shape), rows)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def play(player: Player, repeats: int, device: str) -> None:
    """Warm up, then time; train and eval in turn."""
    for turn in range(repeats + 2):
        forward, backward = player.train()
        start = time.perf_counter()
        player.evaluate()
        evaluated = time.perf_counter() - start
        if turn >= 2:
            player.times.append((forward, backward, forward + backward, evaluated))
