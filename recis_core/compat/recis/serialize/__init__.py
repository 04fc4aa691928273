"""Checkpoints in RecIS's format."""

from recis_core.compat.recis.serialize.loader import Loader
from recis_core.compat.recis.serialize.saver import Saver

__all__ = ["Loader", "Saver"]
