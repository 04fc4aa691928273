"""Checks a sparse optimizer's numbers, such as lr, and refuses torch's arguments that it does not have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

NUMBERS = ("lr", "betas", "beta1", "beta2", "eps", "weight_decay", "lr_decay", "momentum")  # of all kinds
LEAST = -1e-12  # schedules may end a rounding error below 0

# Arguments of torch's optimizers that have no meaning for tables, and what to do instead.
INSTEAD = {
    "amsgrad": "No maximum of v is kept; leave it out",
    "maximize": "Negate the loss",
    "foreach": "One fused update a table is all there is; leave it out",
    "fused": "One fused update a table is all there is; leave it out",
    "capturable": "Steps are not captured in CUDA graphs; leave it out",
    "differentiable": "Steps cannot be differentiated; leave it out",
    "decoupled_weight_decay": "Use SparseAdamW",
    "dampening": "Momentum is not dampened; leave it out",
    "nesterov": "Momentum is plain; leave it out",
}


def as_float(value: Any) -> float:
    """The float of a number or of a tensor of one element.

    Raises:
      TypeError: value is neither.
    """
    if type(value) is float:  # nearly always; isinstance of Tensor costs ten times as much
        return value
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    if isinstance(value, str | bytes | Tensor) or not hasattr(value, "__float__"):
        raise TypeError(f"must be a number or a tensor of one; got {value!r}")
    return float(value)


def check_numbers(numbers: Mapping[str, Any], where: str = "") -> None:
    """Raises TypeError or ValueError unless all are finite and not negative, and betas below 1.

    where: follows the name in errors, such as " of tables ['user']".
    """
    for name, value in _each(numbers):
        try:
            number = as_float(value)
        except TypeError as error:
            raise TypeError(f"{name}{where} {error}.") from None
        if not (math.isfinite(number) and number >= LEAST):
            raise ValueError(f"{name}{where} must be a finite number >= 0; got {value}.")
        if name in ("beta1", "beta2") and number >= 1:
            raise ValueError(f"{name}{where} must be below 1; got {value}.")


ORDINARY = 1e18  # float32 holds the product of two numbers below it


def as_floats(*values: Any) -> tuple[float, ...]:
    """as_float of each."""
    return tuple(map(as_float, values))


def plainly_fine(group: Mapping[str, Any], names: Iterable[str], flags: Iterable[str]) -> bool:
    """A quick check: floats are in range, flags are off. If False, check_numbers decides."""
    for name in names:
        value = group[name]
        if type(value) in (float, int) and 0.0 <= value < ORDINARY:
            continue
        if name != "betas" or type(value) is not tuple or not all(type(b) is float and 0.0 <= b < 1.0 for b in value):
            return False
    return not any(group[flag] for flag in flags)


def _each(numbers: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in numbers.items():
        if name != "betas":
            yield name, value
        elif isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
            raise ValueError(f"betas must be a pair (beta1, beta2); got {value!r}.")
        else:
            yield from zip(("beta1", "beta2"), value, strict=True)


def refuse_torch_only(kind: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raises ValueError if an argument that only torch's optimizer has is set, TypeError if an argument is unknown."""
    for name, value in given.items():
        if name not in known:
            raise TypeError(f"{kind} has no argument {name!r}.")
        if value:
            raise ValueError(f"{kind} has no {name}; got {name}={value!r}. {INSTEAD[name]}.")


def both_betas(betas: Any, beta1: float, beta2: float, defaults: tuple[float, float]) -> tuple[Any, Any]:
    """(beta1, beta2), given by torch's name or by RecIS's.

    Raises:
      ValueError: both are given, and differ.
    """
    if betas is None:
        return beta1, beta2
    check_numbers({"betas": betas})
    pair = betas[0], betas[1]
    if (beta1, beta2) not in (defaults, pair):
        raise ValueError(f"betas={betas!r} and beta1={beta1}, beta2={beta2} are the same numbers; give one of the two.")
    return pair
