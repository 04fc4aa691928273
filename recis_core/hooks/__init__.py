"""Hooks of a training run: docs/hooks.md."""

from recis_core.hooks.checkpoint_hook import CheckpointHook
from recis_core.hooks.early_stop_hook import EarlyStopHook
from recis_core.hooks.evaluate_hook import EvaluateHook
from recis_core.hooks.evict_hook import EvictHook
from recis_core.hooks.hook import Hook
from recis_core.hooks.json_lines_hook import JsonLinesHook
from recis_core.hooks.logger_hook import LoggerHook
from recis_core.hooks.non_finite_hook import NonFiniteHook
from recis_core.hooks.periodic_hook import PeriodicHook
from recis_core.hooks.profiler_hook import ProfilerHook
from recis_core.hooks.progress_hook import ProgressHook
from recis_core.hooks.report_hook import ReportHook
from recis_core.hooks.run import Run, StepResult
from recis_core.hooks.run_report import RunReport
from recis_core.hooks.step_log import StepLog
from recis_core.hooks.step_sums import LoggedSteps
from recis_core.hooks.tensorboard_hook import TensorBoardHook

__all__ = [
    "CheckpointHook",
    "EarlyStopHook",
    "EvaluateHook",
    "EvictHook",
    "Hook",
    "JsonLinesHook",
    "LoggedSteps",
    "LoggerHook",
    "NonFiniteHook",
    "PeriodicHook",
    "ProfilerHook",
    "ProgressHook",
    "ReportHook",
    "Run",
    "RunReport",
    "StepLog",
    "StepResult",
    "TensorBoardHook",
]
