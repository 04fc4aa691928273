"""Tables over many ranks: who owns a row, and how rows and gradients travel."""

from recis_core.exchange.global_mean import global_mean
from recis_core.exchange.in_step import emptied, in_step
from recis_core.exchange.precision import Precision
from recis_core.exchange.sharding import Sharding

__all__ = ["Precision", "Sharding", "emptied", "global_mean", "in_step"]
