"""TorchRec's path of its tensors."""

from recis_core.compat.torchrec.sparse.jagged import JaggedTensor
from recis_core.compat.torchrec.sparse.keyed import KeyedTensor
from recis_core.compat.torchrec.sparse.keyed_jagged import KeyedJaggedTensor

__all__ = ["JaggedTensor", "KeyedJaggedTensor", "KeyedTensor"]
