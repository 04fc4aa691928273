"""Normalize: numbers on a common scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from recis_core.features.arguments import as_flag, as_number, as_numbers, as_whole
from recis_core.features.exact_moments import ExactMoments
from recis_core.features.op import FittedOp
from recis_core.features.quantile import require_keys
from recis_core.features.value import check_kind, mapped

BLOCK = 1 << 14  # values of a pass on the CPU: what lies between two steps stays in a core's cache


@dataclass(frozen=True, eq=False, repr=False)
class Normalize(FittedOp):
    """log1p, then z-score, then clip; each of them only where it is asked for.

    Args:
      log1p: sign(x)·log(1 + |x|).
      zscore: (x − mean) / std, by the mean and the standard deviation (of the population) that were fitted. A column of
        one value gives 0.
      clip: [low, high] of the result.
      fitted: {"count", "mean", "std"}.

    Takes numbers in any form; gives float32 in the same form, computed in float64; NaN stays NaN and is left out of the
    fit. Sums of the fit are exact: any split of the data, or order of it, gives the same bits. log1p is the library's, in
    float64, so a result in float32 may differ between devices where the last bit in float64 decides its rounding, one in
    some hundred million.
    """

    log1p: bool = False
    zscore: bool = False
    clip: tuple[float, ...] | None = None
    takes: ClassVar[str] = "number"

    def __post_init__(self) -> None:
        as_flag(self.log1p, "log1p")
        as_flag(self.zscore, "zscore")
        if self.clip is not None:
            clip = as_numbers(self.clip, "clip")
            if len(clip) != 2 or clip[0] > clip[1]:
                raise ValueError(f"clip must be two numbers, low and high; got {list(clip)}.")
            self._set(clip=clip)
        if self.fitted is not None and not self.zscore:
            raise ValueError("fitted numbers are of zscore=True; zscore is False.")
        super().__post_init__()

    @property
    def needs_fit(self) -> bool:
        return self.zscore

    def sketch(self) -> ExactMoments:
        return ExactMoments(self.log1p)

    def read_fitted(self, numbers: Any) -> dict[str, Any]:
        found = require_keys(numbers, ("count", "mean", "std"))
        std = as_number(found["std"], "fitted std")
        if std < 0:
            raise ValueError(f"fitted std must not be negative; got {std}.")
        count, mean = as_whole(found["count"], "fitted count"), as_number(found["mean"], "fitted mean")
        return {"count": count, "mean": mean, "std": std}

    def check_input(self, value: Any) -> None:
        check_kind(value, "number")

    @classmethod
    def run(cls, ops: Sequence[Normalize], values: Sequence[Any]) -> list[Any]:
        return [mapped(value, op._normalized) for op, value in zip(ops, values, strict=True)]

    def _normalized(self, values: Tensor) -> Tensor:
        low, high = self.clip or (-math.inf, math.inf)
        fitted = self.fitted or {"mean": 0.0, "std": 1.0}
        numbers = fitted["mean"], fitted["std"] or 1.0, low, high
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.to(torch.float32)
        flat = values.detach().reshape(-1)
        if flat.device.type != "cpu" or len(flat) <= BLOCK:
            return _scaled(flat, self.log1p, *numbers).view(values.shape)
        return torch.cat([_scaled(block, self.log1p, *numbers) for block in flat.split(BLOCK)]).view(values.shape)


def _scaled(values: Tensor, logarithm: bool, mean: float, scale: float, low: float, high: float) -> Tensor:
    x = values.to(torch.float64, copy=True)
    if logarithm:
        x = x.abs().log1p_().copysign_(x)
    x.sub_(mean).div_(scale)
    if low > -math.inf:
        x = torch.where(x < low, low, x)
    if high < math.inf:
        x = torch.where(x > high, high, x)
    return x.to(torch.float32)
