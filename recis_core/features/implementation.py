"""Which of two implementations with equal bits runs: compiled loops for tensors on the CPU, plain torch for all others.

RECIS_BACKEND=torch takes plain torch everywhere, and then numba is never loaded.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from torch import Tensor


def in_loops(values: Tensor) -> bool:
    return values.device.type == "cpu" and os.environ.get("RECIS_BACKEND") != "torch"


def array(values: Tensor) -> np.ndarray[Any, Any]:
    """A tensor's memory, in order; a copy where it is not in order."""
    return values.detach().contiguous().numpy()
