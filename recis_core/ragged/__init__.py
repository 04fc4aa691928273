"""Rows of unequal length: RaggedTensor, to and from dense, to sparse, and from TorchRec's KeyedJaggedTensor."""

from recis_core.ragged.dense import dense_to_ragged, ragged_to_dense
from recis_core.ragged.keyed_jagged import from_keyed_jagged, is_keyed_jagged
from recis_core.ragged.tensor import RaggedPadInfo, RaggedTensor

__all__ = [
    "RaggedPadInfo",
    "RaggedTensor",
    "dense_to_ragged",
    "from_keyed_jagged",
    "is_keyed_jagged",
    "ragged_to_dense",
]
