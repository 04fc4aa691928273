"""Hooks of a training run."""

from recis_core.hooks.hook import Hook
from recis_core.hooks.run import Run, StepResult

__all__ = ["Hook", "Run", "StepResult"]
