"""Optimizers of tables, and AdamWTF of dense parameters."""

from recis_core.compat.recis.optim.adamw_tf import AdamWTF
from recis_core.compat.recis.optim.sparse_adam import SparseAdam
from recis_core.compat.recis.optim.sparse_adamw import SparseAdamW
from recis_core.compat.recis.optim.sparse_adamw_tf import SparseAdamWTF

__all__ = ["AdamWTF", "SparseAdam", "SparseAdamW", "SparseAdamWTF"]
