"""Initializers: each names a distribution; values depend on (seed, table, id) alone.

Unlike torch's, they fill no tensor: a row gets its values when its id is first seen, the same on every rank and backend.
"""

from __future__ import annotations

import math
from typing import Protocol

from recis_core.backends.initial_values import Distribution


class Initializer(Protocol):
    """An initializer gives the distribution of a table of `dim` columns."""

    def distribution(self, dim: int) -> Distribution: ...


class _Named:
    """Equality and repr by arguments, so that tables with equal initializers can share storage."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self).__name__, *sorted(self.__dict__.items())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self.__dict__.items())})"


class ConstantInitializer(_Named):
    """Every value is init_val."""

    def __init__(self, init_val: float = 0.0) -> None:
        self.init_val = float(init_val)

    def distribution(self, dim: int) -> Distribution:
        return Distribution("constant", self.init_val)


class UniformInitializer(_Named):
    """Uniform on [a, b]; without bounds ±1/sqrt(dim)."""

    def __init__(self, a: float | None = None, b: float | None = None) -> None:
        if (a is None) != (b is None):
            raise ValueError(f"UniformInitializer needs both a and b, or neither; got a={a}, b={b}.")
        self.a, self.b = a, b

    def distribution(self, dim: int) -> Distribution:
        bound = 1 / math.sqrt(dim)
        return Distribution("uniform", -bound if self.a is None else self.a, bound if self.b is None else self.b)


class NormalInitializer(_Named):
    """Normal with mean and std."""

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        self.mean, self.std = float(mean), float(std)

    def distribution(self, dim: int) -> Distribution:
        return Distribution("normal", self.mean, self.std)


class TruncNormalInitializer(_Named):
    """Normal with mean and std, cut to [a, b]; as torch.nn.init.trunc_normal_."""

    def __init__(self, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> None:
        self.mean, self.std, self.a, self.b = float(mean), float(std), float(a), float(b)

    def distribution(self, dim: int) -> Distribution:
        return Distribution("truncated_normal", self.mean, self.std, self.a, self.b)


class XavierUniform(_Named):
    """Uniform ± gain·sqrt(6 / (fan_in + fan_out)); a row counts as a [1, dim] weight. Glorot & Bengio 2010."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = float(gain)

    def distribution(self, dim: int) -> Distribution:
        bound = self.gain * math.sqrt(6 / (1 + dim))
        return Distribution("uniform", -bound, bound)


class XavierNormal(_Named):
    """Normal with std gain·sqrt(2 / (fan_in + fan_out)); a row counts as a [1, dim] weight."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = float(gain)

    def distribution(self, dim: int) -> Distribution:
        return Distribution("normal", 0.0, self.gain * math.sqrt(2 / (1 + dim)))


class _Kaiming(_Named):
    def __init__(self, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> None:
        if mode not in ("fan_in", "fan_out"):
            raise ValueError(f"mode must be fan_in or fan_out; got {mode!r}.")
        self.a, self.mode, self.nonlinearity = float(a), mode, nonlinearity

    def _std(self, dim: int) -> float:
        from torch.nn.init import calculate_gain

        gain = calculate_gain(self.nonlinearity, self.a if self.nonlinearity == "leaky_relu" else None)  # type: ignore[arg-type]
        return gain / math.sqrt(dim if self.mode == "fan_in" else 1)


class KaimingUniform(_Kaiming):
    """Uniform ± sqrt(3)·gain/sqrt(fan); fan_in is dim, fan_out 1. He et al. 2015."""

    def distribution(self, dim: int) -> Distribution:
        bound = math.sqrt(3) * self._std(dim)
        return Distribution("uniform", -bound, bound)


class KaimingNormal(_Kaiming):
    """Normal with std gain/sqrt(fan); fan_in is dim, fan_out 1. He et al. 2015."""

    def distribution(self, dim: int) -> Distribution:
        return Distribution("normal", 0.0, self._std(dim))
