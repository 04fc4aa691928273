"""One training loop for every way to hold the dense side, and what is compared after it.

Sizes: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from recis_core.exchange import global_mean
from recis_core.nn import EmbeddingEngine
from recis_core.optim import clip_grad_norm_
from tests.exchange.models import Batch, Model, assert_same_tables, batch, rows_of, share, united


def local_loss(model: Callable[..., Tensor], data: Batch) -> Tensor:
    summed = F.binary_cross_entropy_with_logits(model(data).float(), data["label"], reduction="sum")
    return global_mean(summed, len(data["label"]))


def train(
    model: Callable[..., Tensor], optimizer: Any, rank: int, world: int, steps: int = 3, begin: int = 0, **how: Any
) -> list[float]:
    """Steps on shares of global batches; this rank's losses."""
    return [step(model, optimizer, s, rank, world, **how) for s in range(begin, begin + steps)]


def step(
    model: Callable[..., Tensor],
    optimizer: Any,
    number: int,
    rank: int,
    world: int,
    *,
    scaler: torch.amp.GradScaler | None = None,
    clip: float | None = None,
    norms: list[float] | None = None,
    before_backward: Callable[[], None] = lambda: None,
    after_backward: Callable[[], None] = lambda: None,
    autocast: bool = False,
) -> float:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = local_loss(model, batch(number, share(rank, world)))
    optimizer.zero_grad()
    before_backward()
    (loss if scaler is None else scaler.scale(loss)).backward()
    after_backward()
    if clip is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)
        norm = float(clip_grad_norm_(optimizer, clip))
        if norms is not None:
            norms.append(norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    return loss.item()


def result(model: nn.Module, losses: list[float], **more: Any) -> dict[str, Any]:
    """Of a run: this rank's rows, the tower whole, and losses."""
    return {"rows": rows_of(model), "tower": tower_of(model), "losses": losses, **more}


def tower_of(model: nn.Module) -> np.ndarray:
    """All dense parameters, whole, flat. Collective under FSDP2."""
    whole = [getattr(p, "full_tensor", lambda p=p: p)() for p in model.parameters()]
    return torch.cat([p.detach().cpu().float().flatten() for p in whole]).numpy()


def assert_same_run(ranks: list[dict[str, Any]], want: dict[str, Any], rtol: float = 1e-5) -> None:
    """Tables, tower and losses of ranks together against those of one process."""
    assert_same_tables(united([r["rows"] for r in ranks]), want["rows"], rtol)
    for r in ranks:
        np.testing.assert_allclose(r["tower"], want["tower"], rtol=rtol, atol=rtol * np.abs(want["tower"]).max())
    np.testing.assert_allclose(np.mean([r["losses"] for r in ranks], 0), want["losses"], rtol=rtol)


def overlapping() -> Model:
    """Sends gradients from inside backward."""
    model = Model()
    model.engine = EmbeddingEngine(model.engine.options, overlap=True)
    return model


def sharded(model: Model, policy: str = "root", **how: Any) -> Model:
    """Under FSDP2: "root" alone, each "block" of the tower, or "both"."""
    if policy != "root":
        for block in (model.tower[0], model.tower[2]):
            fully_shard(block, **how)
    if policy != "block":
        fully_shard(model, **how)
    return model


@contextmanager
def poisoned_rows(model: Model, here: bool) -> Iterator[None]:
    """Inside, rows of "user" get an infinite gradient on this rank."""

    def poison(_: Any, __: Any, out: dict[str, Tensor]) -> None:
        out["user"].register_hook(lambda grad: grad * float("inf"))

    handle = model.engine.register_forward_hook(poison) if here else None
    yield
    if handle is not None:
        handle.remove()


def poison_tower(model: Model) -> None:
    """One element of a dense gradient, or of this rank's shard of it, becomes inf."""
    grad = model.tower[0].weight.grad
    getattr(grad, "_local_tensor", grad)[0, 0] = float("inf")
