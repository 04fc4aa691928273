"""Tables and layers."""

from recis_core.compat.recis.nn.modules.embedding import DynamicEmbedding, EmbeddingOption
from recis_core.compat.recis.nn.modules.embedding_engine import EmbeddingEngine
from recis_core.compat.recis.nn.modules.hashtable import HashTable

__all__ = ["DynamicEmbedding", "EmbeddingEngine", "EmbeddingOption", "HashTable"]
