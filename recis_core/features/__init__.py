"""Features: from raw columns to a model's inputs, by one definition for training and serving."""

from recis_core.features.bucketize import Bucketize
from recis_core.features.combine import Combine
from recis_core.features.custom import Custom, register_function
from recis_core.features.feature import Feature
from recis_core.features.feature_cross import FeatureCross
from recis_core.features.feature_engine import FeatureEngine
from recis_core.features.fill_null import FillNull
from recis_core.features.hash import Hash
from recis_core.features.id_multi_hash import IDMultiHash
from recis_core.features.lookup import Lookup
from recis_core.features.mod import Mod
from recis_core.features.normalize import Normalize
from recis_core.features.quantile import Quantile
from recis_core.features.select_field import SelectField, SelectFields
from recis_core.features.sequence_truncate import SequenceTruncate
from recis_core.features.string_multi_hash import StringMultiHash
from recis_core.features.vocabulary import Vocabulary

__all__ = [
    "Bucketize",
    "Combine",
    "Custom",
    "Feature",
    "FeatureCross",
    "FeatureEngine",
    "FillNull",
    "Hash",
    "IDMultiHash",
    "Lookup",
    "Mod",
    "Normalize",
    "Quantile",
    "SelectField",
    "SelectFields",
    "SequenceTruncate",
    "StringMultiHash",
    "Vocabulary",
    "register_function",
]
