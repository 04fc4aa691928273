"""python -m bench bridge: what a crossing between torch and JAX costs, in µs a call, beside torch by itself.

Small arrays: these are costs of calls, not of memory, and the reason that backends work in stages.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import torch
import tyro
from pydantic.dataclasses import dataclass
from torch import Tensor

from recis_core.bench import rows
from recis_core.bench.provenance import provenance
from recis_core.bridge import ids_to_jax, jax_function, to_jax, to_torch

SIZE = 64  # elements
CALLS = 20  # a round: short, so that some rounds miss the load of other processes
ROUNDS = 100


COLUMNS = ("name", "us", "least", "peer", "ratio")


@dataclass(frozen=True, kw_only=True)
class BridgeConfig:
    """Crossings between torch and JAX, beside plain torch."""

    out: str | None = None
    """Append result rows to this JSON Lines file."""


def run(argv: list[str]) -> int:
    config = tyro.cli(BridgeConfig, args=argv, prog="python -m bench bridge")
    facts = {"bench": "bridge", "size": SIZE, "calls": CALLS, "rounds": ROUNDS, **provenance(0)}
    found = [{**facts, **row} for row in cases()]
    rows.write(found, config.out)
    rows.show(found, COLUMNS, f"a call on {SIZE} elements, µs (load {facts['load']} on {facts['cores']} cores)")
    return 0


def cases() -> list[dict[str, Any]]:
    """Rows of name, us (median over rounds), least (the quietest round) and peer.

    peer is the name of the row that the same work costs in torch alone, or by JAX's own import;
    ratio is us over the peer's. Rounds of all rows alternate, so that another process's load meets
    a row and its peer alike.
    """
    bench = {name: (peer, call) for name, peer, call in _calls()}
    times: dict[str, list[float]] = {name: [] for name in bench}
    for _, call in bench.values():
        call()  # compiles
    for _ in range(ROUNDS):
        for name, (_, call) in bench.items():
            times[name].append(_microseconds(call))
    return [_row(name, peer, times) for name, (peer, _) in bench.items()]


def _calls() -> list[tuple[str, str | None, Callable[[], object]]]:
    tensor, ids = torch.linspace(0.1, 1, SIZE), torch.arange(SIZE)
    array = to_jax(tensor)
    tiny = jax.jit(jnp.sin)
    through_jax = jax_function(jnp.sin)
    leaf, ones = tensor.clone().requires_grad_(), torch.ones(SIZE)
    _check(through_jax, leaf)
    return [
        ("jax.dlpack.from_dlpack", None, lambda: jax.dlpack.from_dlpack(tensor)),
        ("torch -> jax, to_jax", "jax.dlpack.from_dlpack", lambda: to_jax(tensor)),
        ("torch -> jax, ids_to_jax", "jax.dlpack.from_dlpack", lambda: ids_to_jax(ids)),
        ("torch.from_dlpack", None, lambda: torch.from_dlpack(array)),
        ("jax -> torch, to_torch", "torch.from_dlpack", lambda: to_torch(array)),
        ("torch sin", None, lambda: torch.sin(tensor)),
        ("tiny jit, waited for", "torch sin", lambda: tiny(array).block_until_ready()),
        ("torch Function, forward", None, lambda: _Sin.apply(leaf)),
        ("jax_function, forward", "torch Function, forward", lambda: through_jax(leaf)),
        ("torch Function, with backward", None, lambda: torch.autograd.grad(_Sin.apply(leaf), leaf, ones)),
        (
            "jax_function, with backward",
            "torch Function, with backward",
            lambda: torch.autograd.grad(through_jax(leaf), leaf, ones),
        ),
    ]


def _check(through_jax: Callable[[Tensor], Tensor], leaf: Tensor) -> None:
    """The answer before the time: values and gradient of both sides agree."""
    for f in (through_jax, _Sin.apply):
        value = f(leaf)
        (grad,) = torch.autograd.grad(value.sum(), leaf)
        torch.testing.assert_close(value, torch.sin(leaf), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(grad, torch.cos(leaf), rtol=1e-4, atol=1e-4)


class _Sin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * torch.cos(x)


def _microseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS * 1e6


def _row(name: str, peer: str | None, times: dict[str, list[float]]) -> dict[str, Any]:
    us = statistics.median(times[name])
    ratio = None if peer is None else round(us / statistics.median(times[peer]), 2)
    return {"name": name, "us": round(us, 1), "least": round(min(times[name]), 1), "peer": peer, "ratio": ratio}
