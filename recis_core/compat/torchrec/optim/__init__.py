"""Optimizers of tables in backward, and of tables and dense parameters in one step."""

from recis_core.compat.torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from recis_core.compat.torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, KeyedOptimizerWrapper
from recis_core.compat.torchrec.optim.optimizers import SGD, Adagrad, Adam
from recis_core.compat.torchrec.optim.rowwise_adagrad import RowWiseAdagrad

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "CombinedOptimizer",
    "KeyedOptimizer",
    "KeyedOptimizerWrapper",
    "RowWiseAdagrad",
    "apply_optimizer_in_backward",
]
