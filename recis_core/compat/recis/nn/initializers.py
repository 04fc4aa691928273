"""RecIS's initializers: its defaults, its fans, and torch's random numbers in `generate()`.

Rows of tables get their values as ours do: by seed, table and id. The seed is that of `generator`, or 0.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.init import calculate_gain, trunc_normal_

from recis_core.backends.initial_values import Distribution

SEED_BITS = (1 << 64) - 1


class Initializer:
    """Base. `set_shape`, `set_dtype`, `build`, then `generate()` draws a tensor; tables ask `distribution(dim)`.

    shape: [block_size, dim]; a fan is one of these two.
    """

    _shape: list[int] | None = None
    _dtype: torch.dtype = torch.float32
    _impl: Distribution | None = None
    _generator: torch.Generator | None = None

    def set_shape(self, shape: list[int] | None = None) -> None:
        self._shape = shape

    def set_dtype(self, dtype: torch.dtype = torch.float32) -> None:
        self._dtype = dtype

    def build(self) -> None:
        """Raises RuntimeError: it is built already, or has no shape."""
        if self._impl is not None:
            raise RuntimeError("the initializer is built already; make another for another table.")
        if self._shape is None:
            raise RuntimeError("set_shape([block_size, dim]) before build().")
        self._impl = self.distribution(math.prod(self._shape[1:]))

    def impl(self) -> Distribution | None:
        """What `build` made."""
        return self._impl

    def generate(self) -> Tensor:
        """A tensor of the shape, drawn by torch from `generator`. Raises RuntimeError: `build` was not called."""
        if self._impl is None or self._shape is None:
            raise RuntimeError("call build() before generate().")
        return _drawn(self._impl, torch.empty(self._shape, dtype=self._dtype), self._generator)

    def distribution(self, dim: int) -> Distribution:
        """Of rows of `dim` columns."""
        raise NotImplementedError(f"{type(self).__name__} must say its distribution.")

    @property
    def fan_out(self) -> int:
        """block_size, as torch counts a [block_size, dim] tensor's fans; 1 while no shape is set."""
        return 1 if self._shape is None else self._shape[0]

    @property
    def seed(self) -> int:
        return 0 if self._generator is None else self._generator.initial_seed() & SEED_BITS

    def _info(self) -> dict[str, Any]:
        return {}

    def __str__(self) -> str:
        more = {"shape": str(self._shape), "dtype": str(self._dtype)}
        if self._generator is not None:
            more["generator_seed"] = str(self._generator.initial_seed())
        return json.dumps({"type": type(self).__name__, **self._info(), **more}, sort_keys=True)


def _drawn(of: Distribution, out: Tensor, generator: torch.Generator | None) -> Tensor:
    if of.kind == "constant":
        return out.fill_(of.a)
    if of.kind == "uniform":
        return out.uniform_(of.a, of.b, generator=generator)
    if of.kind == "normal":
        return out.normal_(of.a, of.b, generator=generator)
    return trunc_normal_(out, of.a, of.b, of.low, of.high, generator=generator)


class ConstantInitializer(Initializer):
    """Every value is init_val."""

    def __init__(self, init_val: float = 0.0, dtype: torch.dtype = torch.float32) -> None:
        self._init_val = init_val

    def distribution(self, dim: int) -> Distribution:
        return Distribution("constant", float(self._init_val))

    def _info(self) -> dict[str, Any]:
        return {"init_val": self._init_val}


class UniformInitializer(Initializer):
    """Uniform on [a, b], 0 to 1."""

    def __init__(self, a: float = 0.0, b: float = 1.0, generator: torch.Generator | None = None) -> None:
        self._a, self._b, self._generator = a, b, generator

    def distribution(self, dim: int) -> Distribution:
        return Distribution("uniform", float(self._a), float(self._b))

    def _info(self) -> dict[str, Any]:
        return {"a": self._a, "b": self._b}


class NormalInitializer(Initializer):
    """Normal with mean and std."""

    def __init__(self, mean: float = 0.0, std: float = 1.0, generator: torch.Generator | None = None) -> None:
        self._mean, self._std, self._generator = mean, std, generator

    def distribution(self, dim: int) -> Distribution:
        return Distribution("normal", float(self._mean), float(self._std))

    def _info(self) -> dict[str, Any]:
        return {"mean": self._mean, "std": self._std}


class TruncNormalInitializer(NormalInitializer):
    """Normal with mean and std, cut to [a, b]; as torch.nn.init.trunc_normal_."""

    def __init__(
        self,
        mean: float = 0.0,
        std: float = 1.0,
        a: float = -2.0,
        b: float = 2.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(mean, std, generator)
        self._a, self._b = a, b

    def distribution(self, dim: int) -> Distribution:
        return Distribution("truncated_normal", float(self._mean), float(self._std), float(self._a), float(self._b))

    def _info(self) -> dict[str, Any]:
        return {**super()._info(), "a": self._a, "b": self._b}


class XavierUniformInitializer(Initializer):
    """Uniform ± gain · sqrt(6 / (fan_in + fan_out)); fan_in is dim, fan_out block_size."""

    def __init__(self, gain: float = 1.0, generator: torch.Generator | None = None) -> None:
        self._gain, self._generator = gain, generator

    def distribution(self, dim: int) -> Distribution:
        bound = self._gain * math.sqrt(6 / (dim + self.fan_out))
        return Distribution("uniform", -bound, bound)

    def _info(self) -> dict[str, Any]:
        return {"gain": self._gain}


class XavierNormalInitializer(XavierUniformInitializer):
    """Normal with std gain · sqrt(2 / (fan_in + fan_out))."""

    def distribution(self, dim: int) -> Distribution:
        return Distribution("normal", 0.0, self._gain * math.sqrt(2 / (dim + self.fan_out)))


class KaimingUniformInitializer(Initializer):
    """Uniform ± sqrt(3) · gain / sqrt(fan); fan_in is dim, fan_out block_size.

    Raises:
      ValueError: mode is neither fan_in nor fan_out, or torch knows no gain of that nonlinearity.
    """

    def __init__(
        self,
        a: float = 0.0,
        mode: str = "fan_in",
        nonlinearity: str = "leaky_relu",
        generator: torch.Generator | None = None,
    ) -> None:
        self._a, self._mode, self._nonlinearity, self._generator = a, mode.lower(), nonlinearity.lower(), generator
        if self._mode not in ("fan_in", "fan_out"):
            raise ValueError(f"mode must be fan_in or fan_out; got {mode!r}.")
        self._gain = calculate_gain(self._nonlinearity, a if self._nonlinearity == "leaky_relu" else None)  # type: ignore[arg-type]

    def distribution(self, dim: int) -> Distribution:
        bound = math.sqrt(3) * self._gain / math.sqrt(dim if self._mode == "fan_in" else self.fan_out)
        return Distribution("uniform", -bound, bound)

    def _info(self) -> dict[str, Any]:
        return {"a": self._a, "mode": self._mode, "nonlinearity": self._nonlinearity}


class KaimingNormalInitializer(KaimingUniformInitializer):
    """RecIS 1.0 draws a uniform distribution under this name, too, of the normal one's variance; so does this."""

    def __init__(
        self,
        shape: list[int] | None = None,
        dtype: torch.dtype = torch.float32,
        a: float = 0.0,
        mode: str = "fan_in",
        nonlinearity: str = "leaky_relu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(a, mode, nonlinearity, generator)
