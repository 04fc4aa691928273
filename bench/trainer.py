"""python -m bench trainer: what a Trainer costs beside a loop by hand, and what each of its hooks costs beside none.

All train the same DeepFM on the same batches, a few steps each in turn, so that noise falls on all alike: each run has a
thread of its own, and its batches wait for its turn. Losses must be the same bits before anything is timed.
"cost_percent" is the median over turns of a turn's time over the peer's in the same turn, less 1; the loop's for the
Trainer, the Trainer's without hooks for a hook. "quick" is of the fastest tenth of each one's turns, and "cpu" of the CPU
time of all turns, which a machine that others share disturbs less. Each run has a model of its own, whose memory lies
elsewhere, and that alone may change a step by more than a hook does. So "inside_percent" is what a hook's own calls take of
all turns' time, as the Trainer's phases have it, less that of the Trainer without it; what a hook makes a module do in its
forward counts as forward there.

Sizes: B rows of a batch.
"""

from __future__ import annotations

import gc
import itertools
import logging
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from recis_core.bench import rows
from recis_core.bench.provenance import provenance
from recis_core.framework import Trainer, TrainingArguments
from recis_core.hooks import (
    CheckpointHook,
    EarlyStopHook,
    EvaluateHook,
    EvictHook,
    Hook,
    JsonLinesHook,
    LoggerHook,
    NonFiniteHook,
    ProfilerHook,
    ProgressHook,
    ReportHook,
    TensorBoardHook,
)
from recis_core.io import SyntheticClicks
from recis_core.models import DeepFM
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam, join

COLUMNS = ("name", "step_ms", "inside_percent", "cpu_cost_percent", "cost_percent", "quick_cost_percent", "peer")
LOOP, TRAINER = "loop by hand", "Trainer"
NEVER = 10**9  # steps: hooks that save, evaluate or trace do so outside of what is timed
Loop = Callable[["Gate", list[float]], None]  # trains on all batches, and notes their losses


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """A Trainer and each of its hooks, beside a loop by hand."""

    batch: Annotated[int, Field(ge=1)] = 2048
    fields: Annotated[int, Field(ge=1)] = 8
    """Sparse features: the first of those that the synthetic clicks have."""
    dim: Annotated[int, Field(ge=1)] = 16
    backend: str = "numba"
    steps: Annotated[int, Field(ge=1)] = 2
    """Of one turn."""
    turns: Annotated[int, Field(ge=1)] = 200
    hooks: bool = True
    """Whether hooks are timed, too."""
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


def run(argv: list[str]) -> int:
    config = tyro.cli(TrainerConfig, args=argv, prog="python -m bench trainer")
    sizes = {name: getattr(config, name) for name in ("batch", "fields", "dim", "backend", "steps", "turns")}
    facts = {"bench": "trainer", **sizes, **provenance(config.seed)}
    found = [{**facts, **row} for row in cases(config)]
    rows.write(found, config.out)
    rows.show(found, COLUMNS, f"a step of {config.batch} rows (load {facts['load']})")
    return 0


def cases(config: TrainerConfig) -> list[dict[str, Any]]:
    """Rows of name, step_ms (median), quick_ms, and costs over a peer; turns of all rows alternate."""
    with tempfile.TemporaryDirectory() as folder:
        runs = competitors(config, Path(folder))
        turns = take_turns(runs, config)
        for each in runs.values():
            each.end()
    return [measured(name, turns, config.steps) for name in runs]


def competitors(config: TrainerConfig, folder: Path) -> dict[str, Gate]:
    data = batches(config)
    loops: dict[str, Loop] = {LOOP: by_hand(config, data), TRAINER: by_trainer(config, data, [])}
    if config.hooks:
        loops |= {type(hook).__name__: by_trainer(config, data, [hook]) for hook in hooks(folder)}
    return {name: Gate(data, config.steps, loop) for name, loop in loops.items()}


class Gate:
    """Batches of a loop that runs on a thread of its own: so many at each turn, for which the loop waits.

    losses: of the steps so far. phases: of a Trainer.
    """

    phases: Mapping[str, float] = MappingProxyType({})

    def __init__(self, data: list[dict[str, Any]], steps: int, loop: Loop) -> None:
        self._source, self._steps, self._left, self._over = itertools.cycle(data), steps, 0, False
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self.losses: list[float] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(loop,), daemon=True)
        self._thread.start()
        self._done.acquire()

    def _run(self, loop: Loop) -> None:
        try:
            loop(self, self.losses)
        except BaseException as error:  # raised by turn() or end()
            self._error = error
        finally:
            self._done.release()

    def __iter__(self) -> Gate:
        return self

    def __next__(self) -> dict[str, Any]:
        if not self._left:
            self._done.release()
            self._go.acquire()
            self._left = self._steps
        if self._over:
            raise StopIteration
        self._left -= 1
        return next(self._source)

    def turn(self) -> None:
        self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        self._over = True
        self.turn()
        self._thread.join()


def batches(config: TrainerConfig) -> list[dict[str, Any]]:
    clicks = SyntheticClicks("criteo-shape", config.seed)
    return list(clicks.dataset(config.batch, start=0, stop=32 * config.batch))


def model_and_optimizer(config: TrainerConfig, batch: dict[str, Any]) -> tuple[DeepFM, Any]:
    fields = [name for name in batch if name not in ("label", "p", "dense")][: config.fields]
    torch.manual_seed(config.seed)
    model = DeepFM(fields, config.dim, backend=config.backend, seed=config.seed, filter_hook=f"step({NEVER})")
    sparse = SparseAdam(filter_out_sparse_param(model), lr=1e-3)
    return model, join(torch.optim.Adam(model.parameters(), lr=1e-3), sparse)


def by_hand(config: TrainerConfig, data: list[dict[str, Any]]) -> Loop:
    model, optimizer = model_and_optimizer(config, data[0])

    def loop(source: Gate, losses: list[float]) -> None:
        for batch in source:
            loss = F.binary_cross_entropy_with_logits(model(batch), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    return loop


class Losses(Hook):
    """Notes the losses; what that costs counts as the Trainer's."""

    def __init__(self, found: list[float]) -> None:
        self.found = found

    def after_step(self, run: Any, result: Any) -> None:
        self.found.append(result.loss)


class Quiet:
    """A manager that saves nothing: only what a hook does between saves is timed."""

    def due(self, step: int) -> bool:
        return False

    def save(self, step: int, metrics: Any = None) -> None: ...

    def raise_failure(self) -> None: ...

    def wait(self) -> None: ...


def by_trainer(config: TrainerConfig, data: list[dict[str, Any]], hooks: list[Hook]) -> Loop:
    """One run; what a hook does before and after the run is in no turn."""
    model, optimizer = model_and_optimizer(config, data[0])

    def loop(source: Gate, losses: list[float]) -> None:
        trainer = Trainer(
            model, TrainingArguments(), source, data[:1], optimizers=optimizer,
            loss=F.binary_cross_entropy_with_logits, hooks=[Losses(losses), *hooks],
        )  # fmt: skip
        source.phases = trainer.phases
        trainer.train()

    return loop


def hooks(folder: Path) -> list[Hook]:
    """Each as a user would make it; those that do something every so many steps do it every 10th."""
    quiet, log = Console(file=StringIO()), logging.getLogger("recis_core.hooks")
    log.addHandler(logging.StreamHandler(StringIO()))
    log.setLevel(logging.INFO)
    log.propagate = False
    return [
        LoggerHook(10), ProgressHook(10, console=quiet), JsonLinesHook(folder / "log.jsonl", 10),
        TensorBoardHook(folder / "tensorboard", 10), NonFiniteHook(), ReportHook(show=False), EvictHook(NEVER),
        CheckpointHook(Quiet(), at_end=False), EvaluateHook(NEVER, at_end=False), EarlyStopHook("loss", mode="min"),
        ProfilerHook(folder / "traces", [NEVER]),
    ]  # fmt: skip


def check(runs: dict[str, Gate]) -> None:
    """Raises RuntimeError unless all have the loop's losses, to the bit."""
    for name, each in runs.items():
        if each.losses != runs[LOOP].losses:
            raise RuntimeError(f"{name} gives other losses than the {LOOP}: nothing was timed.")


@dataclass
class Turns:
    """Seconds of each turn, and of all turns CPU time, and time inside hooks."""

    wall: list[float] = field(default_factory=list)
    cpu: float = 0.0
    hooks: float = 0.0


def take_turns(runs: dict[str, Gate], config: TrainerConfig) -> dict[str, Turns]:
    found = {name: Turns() for name in runs}
    for _ in range(3):  # warm-up
        for each in runs.values():
            each.turn()
    check(runs)
    gc.collect()
    gc.disable()
    for turn in range(config.turns):
        for name in runs if turn % 2 else reversed(runs):
            start, cpu, inside = time.perf_counter(), time.process_time(), runs[name].phases.get("hooks", 0.0)
            runs[name].turn()
            found[name].wall.append(time.perf_counter() - start)
            found[name].cpu += time.process_time() - cpu  # the other runs wait
            found[name].hooks += runs[name].phases.get("hooks", 0.0) - inside
    gc.enable()
    check(runs)
    return found


def measured(name: str, turns: dict[str, Turns], steps: int) -> dict[str, Any]:
    peer = LOOP if name in (LOOP, TRAINER) else TRAINER
    mine, theirs = turns[name].wall, turns[peer].wall
    return {
        "name": name,
        "step_ms": 1e3 * statistics.median(mine) / steps,
        "inside_percent": 100 * (turns[name].hooks / sum(mine) - turns[peer].hooks / sum(theirs)),
        "cpu_cost_percent": 100 * (turns[name].cpu / turns[peer].cpu - 1),
        "quick_ms": 1e3 * quick(mine) / steps,
        "cost_percent": 100 * (statistics.median(a / b for a, b in zip(mine, theirs, strict=True)) - 1),
        "quick_cost_percent": 100 * (quick(mine) / quick(theirs) - 1),
        "peer": peer,
    }


def quick(times: list[float]) -> float:
    """The mean of the fastest tenth, of one at least."""
    return statistics.mean(sorted(times)[: max(1, len(times) // 10)])
