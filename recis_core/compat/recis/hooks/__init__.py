"""What the trainer calls: logging, profiling, filters of tables."""

from typing import Any

from recis_core.compat.recis.alibaba import refuse
from recis_core.compat.recis.hooks.filter_hook import HashTableFilterHook
from recis_core.compat.recis.hooks.hook import Hook
from recis_core.compat.recis.hooks.logger_hook import LoggerHook
from recis_core.compat.recis.hooks.profiler_hook import ProfilerHook

__all__ = ["HashTableFilterHook", "Hook", "LoggerHook", "ProfilerHook"]


def __getattr__(name: str) -> Any:
    return refuse(__name__, name)
