"""Every kernel, by name: what `python -m pallas_kernels`, the benchmark, the tuner and the tests walk over."""

from __future__ import annotations

from pallas_kernels.catalog import bulk_insert, dedup, fused_update, gather_pool, probe, row_dot, segment_sum
from pallas_kernels.kernel import Kernel

MODULES = (dedup, probe, bulk_insert, gather_pool, segment_sum, row_dot, fused_update)
KERNELS: dict[str, Kernel] = {module.KERNEL.name: module.KERNEL for module in MODULES}
