"""The numbers of a batch that an op is fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recis_core.features.value import flat


def observed(value: Any) -> np.ndarray[Any, Any]:
    """float64 [N] without NaN; −0 as 0.

    Raises:
      ValueError: a value is infinite.
    """
    numbers = flat(value).detach().reshape(-1).to("cpu", torch.float64).numpy() + 0.0
    numbers = numbers[~np.isnan(numbers)]
    if np.isinf(numbers).any():
        raise ValueError("an infinite value cannot be fitted to; replace it first, by FillNull(…, null=…) or Custom.")
    return numbers
