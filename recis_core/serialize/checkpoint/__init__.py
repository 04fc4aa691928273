"""Checkpoints: tables in files of bounded size, beside all else that a run needs to go on.

places ──> writer, checkpoint      a directory here or in a store; one checkpoint written, or read, without a model
table_files, load_rows             rows into files, and into tables, some at a time
"""

from recis_core.serialize.checkpoint.checkpoint import Checkpoint, TableInfo, open_checkpoint
from recis_core.serialize.checkpoint.load_rows import load_rows
from recis_core.serialize.checkpoint.manager import CheckpointManager
from recis_core.serialize.checkpoint.policies import (
    AtEnd,
    DeltaPolicy,
    EveryMinutes,
    EverySteps,
    KeepBest,
    KeepEvery,
    KeepLast,
    KeepPolicy,
    SavePolicy,
)
from recis_core.serialize.checkpoint.rank_files import RankLayout
from recis_core.serialize.checkpoint.restoring import Restored
from recis_core.serialize.checkpoint.selection import CheckpointSource
from recis_core.serialize.checkpoint.writer import CheckpointWriter, new_checkpoint

__all__ = [
    "AtEnd",
    "Checkpoint",
    "CheckpointManager",
    "CheckpointSource",
    "CheckpointWriter",
    "DeltaPolicy",
    "EveryMinutes",
    "EverySteps",
    "KeepBest",
    "KeepEvery",
    "KeepLast",
    "KeepPolicy",
    "RankLayout",
    "Restored",
    "SavePolicy",
    "TableInfo",
    "load_rows",
    "new_checkpoint",
    "open_checkpoint",
]
