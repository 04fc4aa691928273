"""Ranking models, to import and to read: each is written as a user would write a model."""

from recis_core.models.deepfm import DeepFM
from recis_core.models.dlrm import DLRM

__all__ = ["DLRM", "DeepFM"]
