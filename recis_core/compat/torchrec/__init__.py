"""TorchRec's module paths, names, arguments and meanings, as thin classes on ours. See docs/compat-torchrec.md."""

from recis_core.compat.torchrec.modules.embedding_configs import (
    DataType,
    EmbeddingBagConfig,
    EmbeddingConfig,
    PoolingType,
)
from recis_core.compat.torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection
from recis_core.compat.torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor, KeyedTensor
from recis_core.compat.torchrec.streamable import Multistreamable, Pipelineable

__version__ = "1.8.0"  # of the TorchRec whose names these are

__all__ = [
    "DataType",
    "EmbeddingBagCollection",
    "EmbeddingBagConfig",
    "EmbeddingCollection",
    "EmbeddingConfig",
    "JaggedTensor",
    "KeyedJaggedTensor",
    "KeyedTensor",
    "Multistreamable",
    "Pipelineable",
    "PoolingType",
]
