"""Models to import and to read: each is written as a user would write a model."""

from recis_core.models.deepfm import DeepFM
from recis_core.models.dlrm import DLRM
from recis_core.models.hstu import HSTU
from recis_core.models.jagged_attention import jagged_attention
from recis_core.models.jagged_blocks import JaggedBlocks
from recis_core.models.next_item_losses import history_and_next, next_item_bce
from recis_core.models.relative_bias import RelativeBias
from recis_core.models.sasrec import SASRec

__all__ = [
    "DLRM",
    "HSTU",
    "DeepFM",
    "JaggedBlocks",
    "RelativeBias",
    "SASRec",
    "history_and_next",
    "jagged_attention",
    "next_item_bce",
]
