"""Which dtypes tables may have here."""

from __future__ import annotations

import torch

KEPT = (torch.float32, torch.bfloat16)


def check_dtype(dtype: torch.dtype) -> None:
    """Raises ValueError unless tables can hold the dtype: RecIS's float16, float64, int8, int32 and int64 cannot be had."""
    if dtype not in KEPT:
        raise ValueError(
            f"tables hold float32 or bfloat16 here; got dtype={dtype}. Train in float32 and serve quantised rows "
            "(recis_core.serving), or use bfloat16 for half the memory."
        )
