"""GPU kernels in Pallas: JAX arrays and a frozen config in, arrays out; without torch and without tables."""

from recis_core.pallas_kernels.bulk_insert import bulk_insert
from recis_core.pallas_kernels.dedup import Unique, dedup
from recis_core.pallas_kernels.fused_update import fused_update
from recis_core.pallas_kernels.gather_pool import gather_pool
from recis_core.pallas_kernels.index import Format, Index, Keys
from recis_core.pallas_kernels.insertion import Evicted, Inserted, Settings
from recis_core.pallas_kernels.pack_ids import Packed, pack_ids, unpack_ids
from recis_core.pallas_kernels.probe import Found, Touch, probe
from recis_core.pallas_kernels.quantise import Quantised, dequantise, quantise
from recis_core.pallas_kernels.rounding import Rounding
from recis_core.pallas_kernels.row_dot import row_dot
from recis_core.pallas_kernels.segment_sum import SUM_CHUNK, Segments, segment_sum
from recis_core.pallas_kernels.select_rows import Selected, select_rows
from recis_core.pallas_kernels.tuning import FrameConfig, KeyConfig, PoolConfig, RowConfig

__all__ = [
    "SUM_CHUNK",
    "Evicted",
    "Format",
    "Found",
    "FrameConfig",
    "Index",
    "Inserted",
    "KeyConfig",
    "Keys",
    "Packed",
    "PoolConfig",
    "Quantised",
    "Rounding",
    "RowConfig",
    "Segments",
    "Selected",
    "Settings",
    "Touch",
    "Unique",
    "bulk_insert",
    "dedup",
    "dequantise",
    "fused_update",
    "gather_pool",
    "pack_ids",
    "probe",
    "quantise",
    "row_dot",
    "segment_sum",
    "select_rows",
    "unpack_ids",
]
