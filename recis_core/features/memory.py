"""The memory of tensors for compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor


def array(values: Tensor) -> np.ndarray[Any, Any]:
    """A CPU tensor's memory, in order; a copy where it is not in order."""
    return values.detach().contiguous().numpy()
