"""Rows of unequal length: RaggedTensor, to and from dense, to sparse, and from TorchRec's KeyedJaggedTensor; and ops of them.

An op takes one column, or a list of columns in one call, and changes no input.
"""

from recis_core.ragged.dense import dense_to_ragged, ragged_to_dense
from recis_core.ragged.functional.bucketize import bucketize
from recis_core.ragged.functional.cut_off import cut_off_2d, cut_off_3d
from recis_core.ragged.functional.feature_cross import feature_cross
from recis_core.ragged.functional.merge_offsets import merge_offsets
from recis_core.ragged.functional.multi_hash import largest_prime, multi_hash, multi_hash_with
from recis_core.ragged.functional.ragged_tile import ragged_tile
from recis_core.ragged.functional.segment_sum import segment_mean, segment_sum
from recis_core.ragged.functional.topk_index_cut_off import topk_index_cut_off
from recis_core.ragged.functional.unsigned_mod import uint64_mod
from recis_core.ragged.keyed_jagged import from_keyed_jagged, is_keyed_jagged
from recis_core.ragged.tensor import RaggedPadInfo, RaggedTensor

__all__ = [
    "RaggedPadInfo",
    "RaggedTensor",
    "bucketize",
    "cut_off_2d",
    "cut_off_3d",
    "dense_to_ragged",
    "feature_cross",
    "from_keyed_jagged",
    "is_keyed_jagged",
    "largest_prime",
    "merge_offsets",
    "multi_hash",
    "multi_hash_with",
    "ragged_tile",
    "ragged_to_dense",
    "segment_mean",
    "segment_sum",
    "topk_index_cut_off",
    "uint64_mod",
]
