"""Optimizer rules of tables: the numbers of recis_core.optim's sparse optimizers, as hashable values.

A rule is part of a state's static configuration. Its arithmetic is backends.spec.UpdateRule's.

Sizes: T logical tables, K numbers of a rule.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from recis_core.backends import SlotSpec, UpdateRule
from recis_core.backends.rule_numbers import adagrad_numbers, adam_numbers
from recis_core.backends.step_numbers import LEAST
from recis_core.optim.hyperparameters import check_numbers


@dataclass(frozen=True)
class Rule:
    """Base of rules. Only rows with a gradient change. `lr` may be replaced in each call of `update`."""

    lr: float

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        check_numbers(asdict(self))

    def slots(self, dim: int) -> tuple[SlotSpec, ...]:
        """Arrays that the rule keeps beside the weights, in its order."""
        return ()

    def numbers(self, lr: Any, t: Any) -> tuple[Any, ...]:
        """backends.spec.RULES[kind] at applied step t >= 1, of float64 scalars."""
        raise NotImplementedError

    def update_rule(self, dim: int) -> UpdateRule:
        return UpdateRule(self.kind, tuple(slot.name for slot in self.slots(dim)))


@dataclass(frozen=True)
class SGD(Rule):
    """As recis_core.optim.SparseSGD. Momentum changes only when its row has a gradient."""

    lr: float = 1e-2
    momentum: float = 0.0
    weight_decay: float = 0.0

    kind: ClassVar[str] = "sgd"

    def slots(self, dim: int) -> tuple[SlotSpec, ...]:
        return (SlotSpec("momentum", dim),) if self.momentum else ()

    def numbers(self, lr: Any, t: Any) -> tuple[Any, ...]:
        return lr, self.weight_decay, self.momentum


@dataclass(frozen=True)
class Adagrad(Rule):
    """As recis_core.optim.SparseAdagrad: one accumulator for each value."""

    lr: float = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    kind: ClassVar[str] = "adagrad"

    def slots(self, dim: int) -> tuple[SlotSpec, ...]:
        return (SlotSpec("sum", dim, self.initial_accumulator_value),)

    def numbers(self, lr: Any, t: Any) -> tuple[Any, ...]:
        return adagrad_numbers(lr, self.lr_decay, self.weight_decay, self.eps, t)


@dataclass(frozen=True)
class RowWiseAdagrad(Adagrad):
    """As recis_core.optim.SparseRowWiseAdagrad: one accumulator for each row."""

    kind: ClassVar[str] = "rowwise_adagrad"

    def slots(self, dim: int) -> tuple[SlotSpec, ...]:
        return (SlotSpec("sum", 1, self.initial_accumulator_value),)


@dataclass(frozen=True)
class Adam(Rule):
    """As recis_core.optim.SparseAdam."""

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    kind: ClassVar[str] = "adam"

    def slots(self, dim: int) -> tuple[SlotSpec, ...]:
        return SlotSpec("m", dim), SlotSpec("v", dim)

    def decay(self, lr: Any) -> Any:
        """The factor of weights before the step."""
        return 1.0

    def numbers(self, lr: Any, t: Any) -> tuple[Any, ...]:
        return adam_numbers(lr, self.beta1, self.beta2, self.eps, self.decay(lr), t, jnp.sqrt)


@dataclass(frozen=True)
class AdamW(Adam):
    """As recis_core.optim.SparseAdamW: decoupled decay of touched rows."""

    weight_decay: float = 1e-2

    def decay(self, lr: Any) -> Any:
        return 1 - lr * self.weight_decay


@dataclass(frozen=True)
class AdamWTF(Adam):
    """As recis_core.optim.SparseAdamWTF: touched rows decay by 1 − weight_decay."""

    weight_decay: float = 1e-2

    def decay(self, lr: Any) -> Any:
        return 1 - self.weight_decay


def hyper_of(rule: Rule, lr: jax.Array | float | None, t: jax.Array) -> jax.Array:
    """float32 [T, K]: a line of numbers for each logical table, t int32 [T].

    In float64 up to the end, as the torch side has them: 1 − beta2ᵗ in float32 is off by 1e-5.
    """
    with jax.enable_x64(True):
        rate = jnp.asarray(rule.lr if lr is None else lr).astype(jnp.float64)
        wide = t.astype(jnp.float64)
        columns = [jnp.broadcast_to(jnp.asarray(x, jnp.float64), t.shape) for x in rule.numbers(rate, wide)]
        table = jnp.stack(columns, 1)
        return jnp.where(jnp.abs(table) < LEAST, 0, table).astype(jnp.float32)
