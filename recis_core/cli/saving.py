"""What `recis train --save DIR` writes: checkpoints of a CheckpointManager.

Beside the run they have, in part "extra", the flags as "settings", and as "origin" what other commands need beside them:

    id          of the run, which --resume takes over
    features    what the model takes: Source.features
    data        what the files were: data_files.py
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli.ckpt_prune import best_of
from recis_core.cli.flags import flag, named, plain_errors
from recis_core.cli.outset import check_store, check_writable
from recis_core.serialize import DeltaPolicy, EveryMinutes, EverySteps, KeepBest, KeepEvery, KeepLast
from recis_core.serialize.checkpoint.policies import KeepPolicy, SavePolicy
from recis_core.urls import is_url

Run = dict[str, Any]


def new_run(features: dict[str, Any], data: Any) -> Run:
    return {"id": uuid.uuid4().hex, "features": features, "data": data}


class Told:
    """Plain values that a checkpoint holds for its readers. A run that goes on has its own, and compares them itself."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def state_dict(self) -> dict[str, Any]:
        return dict(self._values)

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@plain_errors
@dataclass(frozen=True, kw_only=True)
class CheckpointFlags:
    """Saved states."""

    directory: Annotated[str | None, named("save")] = None
    """Directory for saved states, or a URL (s3://…), each whole or not there; one at the end, and more by the next two."""
    every: Annotated[int | None, Field(ge=1), named("save_every")] = None
    """With --save: steps between states."""
    minutes: Annotated[float | None, Field(gt=0, allow_inf_nan=False), named("save_minutes")] = None
    """With --save: minutes between states, by the first process's clock."""
    asynchronous: Annotated[bool, named("save_async")] = False
    """With --save: training waits for a copy in memory alone, and a thread writes it."""
    deltas: Annotated[int | None, Field(ge=1), named("save_deltas")] = None
    """With --save: after each full state so many hold nothing of tables but the rows that changed since the state before;
    default: all are full."""
    keep: Annotated[int | None, Field(ge=1)] = None
    """With --save: keep the newest so many states, by step, and remove older ones, but what the next two keep; default: all."""
    keep_every: Annotated[int | None, Field(ge=1)] = None
    """With --save: keep the states of steps that this divides, whatever --keep says."""
    keep_best: str | None = None
    """With --save: keep the best by a metric of the test rows, whatever --keep says: auc, auc:2 for two of them, logloss:1:min
    where less is better; auc, logloss, or one of --metrics without its column. The model is evaluated before each state."""
    overwrite: bool = False
    """With --save: a directory that holds another run's states may be taken; they are removed once this run has
    saved one."""

    def __post_init__(self) -> None:
        given = {"save_every": self.every, "save_minutes": self.minutes, "save_async": self.asynchronous or None,
                 "save_deltas": self.deltas, "keep": self.keep, "keep_every": self.keep_every, "keep_best": self.keep_best,
                 "overwrite": self.overwrite or None}  # fmt: skip
        for keyword, value in given.items():
            if value is not None and self.directory is None:
                raise ValueError(f"{flag(keyword)} needs --save DIR.")
        self.best  # noqa: B018, raises where it cannot be read

    def check_here(self) -> None:
        if self.directory is not None:
            (check_store if is_url(self.directory) else check_writable)("save", self.directory)

    @property
    def best(self) -> KeepBest | None:
        return None if self.keep_best is None else best_of(self.keep_best)

    @property
    def save_policy(self) -> SavePolicy | None:
        """None: at the end alone."""
        given: list[SavePolicy] = [] if self.every is None else [EverySteps(self.every)]
        given += [] if self.minutes is None else [EveryMinutes(self.minutes)]
        return reduce(or_, given) if given else None

    @property
    def keep_policy(self) -> KeepPolicy | None:
        """None: all stay."""
        given: list[KeepPolicy] = [] if self.keep is None else [KeepLast(self.keep)]
        given += [] if self.keep_every is None else [KeepEvery(self.keep_every)]
        given += [] if self.best is None else [self.best]
        return reduce(or_, given) if given else None

    @property
    def delta_policy(self) -> DeltaPolicy | None:
        return None if self.deltas is None else DeltaPolicy(every_full=self.deltas + 1)
