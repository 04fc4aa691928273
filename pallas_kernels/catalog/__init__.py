"""Every kernel, by name: what `python -m recis_core.pallas_kernels`, the benchmark, the tuner and the tests walk over."""

from __future__ import annotations

from recis_core.pallas_kernels.catalog import (
    bulk_insert,
    dedup,
    fused_update,
    gather_pool,
    pack_ids,
    probe,
    quantise,
    row_dot,
    segment_sum,
    select_rows,
)
from recis_core.pallas_kernels.kernel import Kernel

ROWS: tuple[Kernel, ...] = (
    dedup.KERNEL,
    probe.KERNEL,
    bulk_insert.KERNEL,
    gather_pool.KERNEL,
    segment_sum.KERNEL,
    row_dot.KERNEL,
    fused_update.KERNEL,
    *quantise.KERNELS,
    select_rows.KERNEL,
    *pack_ids.KERNELS,
)
KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in ROWS}
