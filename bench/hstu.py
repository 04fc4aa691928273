"""python -m bench hstu: time and memory of HSTU's layers, forward and backward, by lengths of sequences.

As many ids in every row, in sequences of one length, or in one long sequence among short ones; beside the same layers with
padding and all scores in memory. And twice and four times the ids in sequences of one length. Both have biases of distances
and of times. Answers and gradients must be equal before anything is timed.

Each row is a process of its own, forked from one that has only imported: "peak_mb" is how far the system's peak of resident
memory (VmHWM) in its first step lies above what it had before; "step_ms" is the median of the steps after that, and
"cpu_ms" of their CPU time, which a machine that others share disturbs less. What would
need more than --padded-gb with padding is left out, and its row says how much that is: padding's scores and what autograd
keeps of them.

Sizes: T ids of all sequences, D dim, H heads.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from recis_core.bench import rows
from recis_core.bench.cache.memory import number_in
from recis_core.bench.padded_hstu import padded_hstu
from recis_core.bench.provenance import provenance
from recis_core.models import JaggedBlocks
from recis_core.models.hstu import HSTULayer

COLUMNS = ("shape", "window", "ids", "longest", "cpu_ms", "peak_mb", "padded_cpu_ms", "padded_mb", "padded_needs_gb")
SHORT = 64  # ids of each sequence beside the long one


@dataclass(frozen=True, kw_only=True)
class HSTUConfig:
    """HSTU's layers by lengths of sequences, beside the same with padding."""

    ids: Annotated[int, Field(ge=1)] = 8192
    longest: Annotated[int, Field(ge=SHORT)] = 4096
    """Lengths are powers of two from 64 to this."""
    dim: Annotated[int, Field(ge=1)] = 64
    heads: Annotated[int, Field(ge=1)] = 2
    layers: Annotated[int, Field(ge=1)] = 2
    window: Annotated[int, Field(ge=1)] = 256
    """Each row also with max_attention of so many."""
    steps: Annotated[int, Field(ge=1)] = 5
    """That are timed."""
    threads: Annotated[int, Field(ge=1)] = 1
    padded_gb: float = 4.0
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


@dataclass(frozen=True, kw_only=True)
class HSTUCase:
    """Sequences of these lengths. window: max_attention, or None. padded: by the twin."""

    shape: str
    lengths: tuple[int, ...]
    window: int | None = None
    padded: bool = False


def run(argv: list[str]) -> int:
    config = tyro.cli(HSTUConfig, args=argv, prog="python -m bench hstu")
    check(config)
    facts = {"bench": "hstu", "dim": config.dim, "heads": config.heads, "layers": config.layers}
    found = [{**facts, **row, **provenance(config.seed), "threads": config.threads} for row in measured_rows(config)]
    rows.write(found, config.out)
    rows.show(found, COLUMNS, f"forward and backward of {config.layers} layers (load {found[0]['load']})")
    return 0


def shapes(config: HSTUConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of each row what it shows, and the lengths of its sequences."""
    middle = min(512, config.longest)
    longer = [SHORT << i for i in range((config.longest // SHORT).bit_length())]
    for length in longer:
        yield "one length", (length,) * (config.ids // length)
    for length in longer[1:]:
        yield "one long", (length, *(SHORT,) * ((config.ids - length) // SHORT))
    for times in (1, 2, 4):
        yield "more ids", (middle,) * (times * config.ids // middle)


def measured_rows(config: HSTUConfig) -> Iterator[dict[str, Any]]:
    for shape, lengths in shapes(config):
        facts = {"shape": shape, "ids": sum(lengths), "longest": max(lengths), "sequences": len(lengths)}
        needs = padded_bytes(lengths, config) / 1e9
        twin = {"padded_needs_gb": needs}
        if needs <= config.padded_gb:
            of = in_a_process(HSTUCase(shape=shape, lengths=lengths, padded=True), config)
            twin |= {"padded_ms": of["step_ms"], "padded_cpu_ms": of["cpu_ms"], "padded_mb": of["peak_mb"]}
        for window in (None, config.window):
            ours = in_a_process(HSTUCase(shape=shape, lengths=lengths, window=window), config)
            yield {**facts, "name": "jagged", "window": window, **ours, **twin}


def padded_bytes(lengths: tuple[int, ...], config: HSTUConfig) -> int:
    """Of padding: int64 spans, and a layer's scores, their silu, mask's and divisor's results, and the bias of times."""
    pairs = len(lengths) * max(lengths) ** 2
    return pairs * (8 + config.layers * 4 * (4 * config.heads + 1))


def in_a_process(case: HSTUCase, config: HSTUConfig) -> dict[str, float]:
    """Raises BrokenProcessPool if the system ends the process, for want of memory say."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recis_core.bench.hstu"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measured, case, config).result()


def measured(case: HSTUCase, config: HSTUConfig) -> dict[str, float]:
    """step_ms, cpu_ms and peak_mb."""
    torch.set_num_threads(config.threads)
    layers, x, offsets, times = made(case, config)
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back
    before = number_in("/proc/self/status", "VmRSS")
    step(case, layers, x, offsets, times)
    peak = number_in("/proc/self/status", "VmHWM") - before
    wall, cpu = [], []
    for _ in range(config.steps):
        begun, used = time.perf_counter(), time.process_time()
        step(case, layers, x, offsets, times)
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - used)
    median = statistics.median
    return {"step_ms": 1e3 * median(wall), "cpu_ms": 1e3 * median(cpu), "peak_mb": 1024 * peak / 1e6}


def made(case: HSTUCase, config: HSTUConfig) -> tuple[list[HSTULayer], Tensor, Tensor, Tensor]:
    """Layers, x [T, D], offsets, timestamps [T]: a minute apart, on average, in random order."""
    torch.manual_seed(config.seed)
    layers = [
        HSTULayer(config.dim, config.heads, max_length=config.longest, max_attention=case.window, times=True)
        for _ in range(config.layers)
    ]
    ids = sum(case.lengths)
    for layer in layers:
        torch.nn.init.normal_(layer.by_distance, std=0.1)
    x, times = torch.randn(ids, config.dim, requires_grad=True), torch.randint(0, 60 * ids, (ids,))
    return layers, x, torch.tensor([0, *case.lengths]).cumsum(0), times


def step(case: HSTUCase, layers: list[HSTULayer], x: Tensor, offsets: Tensor, times: Tensor) -> list[Tensor]:
    """The output, and gradients of x and of all weights."""
    weights = [x, *(p for layer in layers for p in layer.parameters())]
    if case.padded:
        out = padded_hstu(layers, x, offsets, times, case.window)
    else:
        out, blocks = x, JaggedBlocks.of(offsets)
        for layer in layers:
            out = layer(out, blocks, times)
    return [out.detach(), *torch.autograd.grad(out.square().mean(), weights)]


def check(config: HSTUConfig) -> None:
    """Raises RuntimeError unless ours and the twin agree, without and with the window."""
    lengths = (300, 64, 7, 1)
    for window in (None, config.window, 10):
        both = (HSTUCase(shape="check", lengths=lengths, window=window, padded=padded) for padded in (False, True))
        ours, theirs = (step(case, *made(case, config)) for case in both)
        for mine, other in zip(ours, theirs, strict=True):
            if not torch.allclose(mine, other, rtol=1e-3, atol=1e-4 * float(other.abs().max())):
                raise RuntimeError("the padded layers give other values than HSTULayer: nothing was timed.")
