"""Traces of chosen steps."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from recis_core.compat.recis.hooks.hook import Hook
from recis_core.compat.recis.utils.logger import Logger
from recis_core.urls import local_path


class ProfilerHook(Hook):
    """torch.profiler by that schedule: after each active span a Chrome trace, `<APP_ID or local>-timeline-<step>.json`."""

    def __init__(
        self, wait: int = 1, warmup: int = 48, active: int = 1, repeat: int = 4, output_dir: str = "./"
    ) -> None:
        self.output_dir, self.logger = output_dir, Logger("ProfilerHook")
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self.prof = profile(
            activities=activities,
            schedule=schedule(wait=wait, warmup=warmup, active=active, repeat=repeat),
            on_trace_ready=self.get_trace_handler(),
            with_stack=True,
            profile_memory=True,
            record_shapes=True,
            with_flops=True,
        )

    def get_trace_handler(self) -> Any:
        """Writes a trace into output_dir, which it makes."""

        def write(prof: profile) -> None:
            folder = local_path(self.output_dir, "output_dir")
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{os.environ.get('APP_ID', 'local')}-timeline-{prof.step_num}.json"
            prof.export_chrome_trace(str(file))
            self.logger.info("wrote %s", file)

        return write

    def after_step(self, *args: Any, **kwargs: Any) -> None:
        self.prof.step()

    def end(self) -> None:
        """Stop, so that a span under way is written."""
        self.prof.stop()
