"""Features: from raw columns to a model's inputs."""

from recis_core.compat.recis.features.feature_engine import FeatureEngine
from recis_core.compat.recis.features.op import (
    Bucketize,
    FeatureCross,
    Hash,
    IDMultiHash,
    Mod,
    SelectField,
    SelectFields,
    SequenceTruncate,
)

__all__ = [
    "Bucketize",
    "FeatureCross",
    "FeatureEngine",
    "Hash",
    "IDMultiHash",
    "Mod",
    "SelectField",
    "SelectFields",
    "SequenceTruncate",
]
