"""recis ckpt prune: remove checkpoints that a policy does not keep."""

from __future__ import annotations

import json
from functools import reduce
from operator import or_
from typing import Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli.ckpt_listing import say
from recis_core.cli.flags import plain_errors
from recis_core.cli.read_flags import read_flags
from recis_core.serialize import KeepBest, KeepEvery, KeepLast
from recis_core.serialize.checkpoint.policies import KeepPolicy
from recis_core.serialize.checkpoint.pruning import prune, unkept
from recis_core.serialize.places import steps_in
from recis_core.serialize.store_path import place_of


@plain_errors
@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """Remove checkpoints but those that one of the flags keeps, and those that a kept delta is based on. The newest always
    stays, and one whose manifest cannot be read, with all before it."""

    path: tyro.conf.Positional[str]
    """A directory of checkpoints, or its URL."""
    keep_last: Annotated[int | None, Field(ge=1)] = None
    """Keep the newest N."""
    keep_every: Annotated[int | None, Field(ge=1)] = None
    """Keep those of steps that N divides."""
    keep_best: str | None = None
    """Keep the best by a metric they were saved with: METRIC, METRIC:N, or METRIC:N:min where less is better."""
    dry_run: bool = False
    """Remove nothing; tell what would go."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if self.keep_last is None and self.keep_every is None and self.keep_best is None:
            raise ValueError("say what stays: --keep-last, --keep-every, --keep-best, or several.")
        if self.keep_best is not None:
            best_of(self.keep_best)

    @property
    def policy(self) -> KeepPolicy:
        given: list[KeepPolicy] = []
        if self.keep_last is not None:
            given.append(KeepLast(self.keep_last))
        if self.keep_every is not None:
            given.append(KeepEvery(self.keep_every))
        if self.keep_best is not None:
            given.append(best_of(self.keep_best))
        return reduce(or_, given)


def best_of(text: str) -> KeepBest:
    """Of METRIC[:N[:min]]. Raises ValueError."""
    metric, _, rest = text.partition(":")
    count, _, mode = rest.partition(":")
    if not metric or (count and not count.isdigit()) or mode not in ("", "min", "max"):
        raise ValueError(f"--keep-best takes METRIC, METRIC:N or METRIC:N:min, as auc:2; got {text!r}.")
    return KeepBest(metric, int(count or 1), mode or "max")


def run(argv: list[str]) -> int:
    config = read_flags(PruneConfig, argv, "recis ckpt prune")
    directory = place_of(config.path)
    before = steps_in(directory)
    if not before:
        raise FileNotFoundError(f"{config.path} holds no checkpoint; wanted step-*/manifest.json.")
    gone = unkept(directory, config.policy) if config.dry_run else prune(directory, config.policy)
    kept = [step for step in before if step not in gone]
    if config.json:
        print(json.dumps({"removed": gone, "kept": kept, "dry_run": config.dry_run}))
    else:
        done = "would remove" if config.dry_run else "removed"
        say(f"{done} {_steps(gone)}; {'would keep' if config.dry_run else 'kept'} {_steps(kept)}")
    return 0


def _steps(steps: list[int]) -> str:
    return f"{len(steps):,} checkpoints" + (f" ({', '.join(map(str, steps))})" if 0 < len(steps) <= 20 else "")
