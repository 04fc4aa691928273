"""Layers: dynamic embedding tables in PyTorch models."""

from typing import TYPE_CHECKING, Any

import recis_core.nn.reaching_tables  # noqa: F401, adds to two methods of nn.Module
from recis_core.nn.dynamic_embedding import DynamicEmbedding
from recis_core.nn.embedding_engine import EmbeddingEngine
from recis_core.nn.hash_table import HashTable, filter_out_sparse_param
from recis_core.options.admit_hook import AdmitHook
from recis_core.options.cache_config import CacheConfig
from recis_core.options.cache_policy import Policy
from recis_core.options.embedding_option import EmbeddingOption
from recis_core.options.filter_hook import FilterHook
from recis_core.options.initializers import (
    ConstantInitializer,
    KaimingNormal,
    KaimingUniform,
    NormalInitializer,
    TruncNormalInitializer,
    UniformInitializer,
    XavierNormal,
    XavierUniform,
)

if TYPE_CHECKING:
    from recis_core.nn.prefetcher import Prefetcher

__all__ = [
    "AdmitHook",
    "CacheConfig",
    "ConstantInitializer",
    "DynamicEmbedding",
    "EmbeddingEngine",
    "EmbeddingOption",
    "FilterHook",
    "HashTable",
    "KaimingNormal",
    "KaimingUniform",
    "NormalInitializer",
    "Policy",
    "Prefetcher",
    "TruncNormalInitializer",
    "UniformInitializer",
    "XavierNormal",
    "XavierUniform",
    "filter_out_sparse_param",
]


def __getattr__(name: str) -> Any:
    """Imports Prefetcher at first use, for it loads numba."""
    if name == "Prefetcher":
        from recis_core.nn.prefetcher import Prefetcher

        return Prefetcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
