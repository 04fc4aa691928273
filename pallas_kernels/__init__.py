"""GPU kernels in Pallas: JAX arrays and a frozen config in, arrays out. Knows no torch and no tables."""

from pallas_kernels.fused_update import fused_update
from pallas_kernels.gather_pool import gather_pool
from pallas_kernels.rounding import Rounding
from pallas_kernels.row_dot import row_dot
from pallas_kernels.segment_sum import SUM_CHUNK, Segments, segment_sum
from pallas_kernels.tuning import PoolConfig, RowConfig

__all__ = [
    "SUM_CHUNK",
    "PoolConfig",
    "Rounding",
    "RowConfig",
    "Segments",
    "fused_update",
    "gather_pool",
    "row_dot",
    "segment_sum",
]
