"""python -m bench hooks: what each hook adds to a Trainer's step.

A Trainer without hooks, and one with each; they take turns of ten steps on the same batches of a click log.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from recis_core import hooks
from recis_core.bench import rows
from recis_core.bench.provenance import provenance
from recis_core.framework import Trainer, TrainingArguments
from recis_core.io import SyntheticClicks
from recis_core.models import DeepFM
from recis_core.optim import SparseAdam, join

COLUMNS = ("name", "ms", "least", "cpu", "added", "inside")
TURN = 10  # steps, of which a hook that tells every 10 steps tells once
PLAIN = "no hook"


@dataclass(frozen=True, kw_only=True)
class HooksConfig:
    """A DeepFM on the small click log."""

    batch: Annotated[int, Field(ge=1)] = 512
    turns: Annotated[int, Field(ge=2)] = 30
    """Of ten steps, of each Trainer."""
    preset: str = "small"
    backend: str = "numba"
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


def run(argv: list[str]) -> int:
    config = tyro.cli(HooksConfig, args=argv, prog="python -m bench hooks")
    sizes = {name: getattr(config, name) for name in ("batch", "turns", "preset", "backend")}
    facts = {"bench": "hooks", **sizes, **provenance(config.seed)}
    found = [{**facts, **row} for row in cases(config)]
    rows.write(found, config.out)
    rows.show(found, COLUMNS, f"a Trainer's step, ms; added by the hook, % (load {facts['load']})")
    return 0


def cases(config: HooksConfig) -> list[dict[str, Any]]:
    """Rows of name, ms a step (median over turns), least (the quietest turn), cpu (milliseconds of the process, median) and
    added: the median over turns of the cpu time that the hook's turn took beyond the plain one beside it, in %; inside: the
    share of wall time spent in calls of the hook, in %, which a busy machine disturbs less."""
    with tempfile.TemporaryDirectory() as folder:
        made: dict[str, list[hooks.Hook]] = {PLAIN: []}
        made |= {type(hook).__name__: [hook] for hook in hooks_in(Path(folder))}
        trainers = {name: _trainer(config, added) for name, added in made.items()}
        times = _timed(config, trainers)
        for name, added in made.items():
            for hook in added:
                hook.end(trainers[name])
        return [_row(name, times) | _inside(trainers[name]) for name in times]


def hooks_in(folder: Path) -> list[hooks.Hook]:
    """Those that do something at each step; files go into the folder."""
    return [
        hooks.LoggerHook(TURN),
        hooks.ProgressHook(TURN, console=Console(file=io.StringIO())),
        hooks.TensorBoardHook(folder / "board", TURN),
        hooks.JsonLinesHook(folder / "log.jsonl", TURN),
        hooks.ProfilerHook(folder / "traces", [10**9]),
        hooks.CheckpointHook(every_steps=10**9),
        hooks.EvaluateHook(10**9),
        hooks.NonFiniteHook(),
        hooks.ReportHook(show=False),
    ]


def _trainer(config: HooksConfig, added: list[hooks.Hook]) -> Trainer:
    torch.manual_seed(config.seed)
    fields = [field.name for field in SyntheticClicks(config.preset).preset.fields]
    model = DeepFM(fields, backend=config.backend)
    both = join(torch.optim.Adam(model.parameters()), SparseAdam(model.embeddings.sparse_parameters()))
    trainer = Trainer(model, TrainingArguments(), optimizers=both, loss=F.binary_cross_entropy_with_logits, hooks=added)
    for hook in added:
        hook.before_train(trainer)
    return trainer


Times = dict[str, list[tuple[float, float]]]  # wall and cpu milliseconds of a step, by turn


def _timed(config: HooksConfig, trainers: dict[str, Trainer]) -> Times:
    batches = list(SyntheticClicks(config.preset).dataset(config.batch, stop=config.batch * TURN))
    times: Times = {name: [] for name in trainers}
    for turn in range(config.turns + 1):
        for name, trainer in trainers.items():
            start = _now()
            for batch in batches:
                trainer.train_step([batch])
            if turn:  # the first one compiles
                wall, cpu = (1e3 * (now - then) / TURN for now, then in zip(_now(), start, strict=True))
                times[name].append((wall, cpu))
    return times


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _inside(trainer: Trainer) -> dict[str, Any]:
    phases = trainer.phases
    return {"inside": 100 * phases["hooks"] / sum(phases.values())}


def _row(name: str, times: Times) -> dict[str, Any]:
    wall, cpu = zip(*times[name], strict=True)
    row = {"name": name, "ms": statistics.median(wall), "least": min(wall), "cpu": statistics.median(cpu)}
    if name == PLAIN:
        return row
    shares = [100 * (mine / plain - 1) for mine, (_, plain) in zip(cpu, times[PLAIN], strict=True)]
    return row | {"added": statistics.median(shares)}
