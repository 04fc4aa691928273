"""Checkpoints of a run: each so many steps, and the newest again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recis_core.compat.recis.framework.saver import Saver

__all__ = ["CheckpointManager", "Saver"]


class CheckpointManager:
    """Counts steps, and saves each save_interval-th.

    As recis.framework.CheckpointManager.
    """

    def __init__(self, saver: Saver, save_interval: int) -> None:
        self._saver, self._save_interval = saver, save_interval
        self._rank, self._shard_num = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self._global_step = torch.zeros((), dtype=torch.int64)
        if saver.get_extra_data("global_step") is None:
            saver.register_for_checkpointing("global_step", self._global_step)

    @property
    def save_interval(self) -> int:
        return self._save_interval

    def register_for_checkpointing(self, name: str, obj: Any) -> None:
        self._saver.register_for_checkpointing(name, obj)

    def step(self) -> None:
        """A training step is over; save if it is due. Collective then."""
        self._global_step += 1
        if self._save_interval and int(self._global_step) % self._save_interval == 0:
            self.save()

    def save(self) -> None:
        """Save now, as ckpt_<step>. Collective."""
        self._saver.save(f"ckpt_{int(self._global_step)}", self._rank, self._shard_num)

    def load_model_bank(self, model_bank_conf: Sequence[Mapping[str, Any]] | None) -> None:
        """Load each of [{"path": a checkpoint's directory, "load": …, "exclude": …, "strict": …}], in order."""
        for conf in model_bank_conf or []:
            self._saver.load(conf["path"], load_conf=conf, shard_id=self._rank, direct_path=True)

    def restore(self, global_step: int | None = None) -> Tensor:
        """Load the newest checkpoint, or that of a step; gives the step, 0-d, which `step` counts up."""
        self._saver.load(ckpt_id=None if global_step is None else f"ckpt_{global_step}", shard_id=self._rank)
        self._global_step = self._saver.get_extra_data("global_step")
        return self._global_step
