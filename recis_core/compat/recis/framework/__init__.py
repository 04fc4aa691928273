"""The trainer, its checkpoints and its metrics."""

from recis_core.compat.recis.framework.checkpoint_manager import CheckpointManager
from recis_core.compat.recis.framework.trainer import Trainer

__all__ = ["CheckpointManager", "Trainer"]
