"""Models to import and to read: each is written as a user would write a model."""

from recis_core.models.candidates import all_ids
from recis_core.models.deepfm import DeepFM
from recis_core.models.din import DIN
from recis_core.models.dlrm import DLRM
from recis_core.models.frequencies import ExactFrequency, StreamingFrequency
from recis_core.models.hstu import HSTU
from recis_core.models.jagged_attention import jagged_attention
from recis_core.models.jagged_blocks import JaggedBlocks
from recis_core.models.losses import in_batch_softmax, sampled_softmax, task_losses
from recis_core.models.mmoe import MMoE
from recis_core.models.negative_sampler import Negatives, NegativeSampler
from recis_core.models.next_item_losses import history_and_next, next_item_bce
from recis_core.models.relative_bias import RelativeBias
from recis_core.models.retrieval import ItemIndex, Retrieval, ranked_rows
from recis_core.models.sasrec import SASRec
from recis_core.models.two_tower import TwoTower

__all__ = [
    "DIN",
    "DLRM",
    "HSTU",
    "DeepFM",
    "ExactFrequency",
    "ItemIndex",
    "JaggedBlocks",
    "MMoE",
    "NegativeSampler",
    "Negatives",
    "RelativeBias",
    "Retrieval",
    "SASRec",
    "StreamingFrequency",
    "TwoTower",
    "all_ids",
    "history_and_next",
    "in_batch_softmax",
    "jagged_attention",
    "next_item_bce",
    "ranked_rows",
    "sampled_softmax",
    "task_losses",
]
