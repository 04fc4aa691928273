"""The arithmetic of one optimizer step on rows already loaded: (hyper, w, g, slots) -> (w, slots).

w and g are float32 [rows, columns], a slot is [rows, columns] or [rows, 1], a hyper number [rows, 1]:
each row has its own, by its logical table. Masked columns hold zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

Hyper = dict[str, jax.Array]
Slots = tuple[jax.Array, ...]
Apply = Callable[[Hyper, jax.Array, jax.Array, Slots, int], tuple[jax.Array, Slots]]


@dataclass(frozen=True)
class Rule:
    """hyper: its numbers' names in the order of a hyper line. slots: how many it may have.

    sums_columns: it adds over a row's columns, in an order that follows from the tile.
    """

    apply: Apply
    hyper: tuple[str, ...]
    slots: tuple[int, ...]
    sums_columns: bool = False


def sgd(h: Hyper, w: jax.Array, g: jax.Array, slots: Slots, dim: int) -> tuple[jax.Array, Slots]:
    """Without a slot plain; with one, momentum."""
    g = g + h["weight_decay"] * w
    if slots:
        g = h["momentum"] * slots[0] + g
        slots = (g,)
    return w - h["lr"] * g, slots


def adam(h: Hyper, w: jax.Array, g: jax.Array, slots: Slots, dim: int) -> tuple[jax.Array, Slots]:
    """alpha < 0 holds lr and the bias corrections, decay what AdamW keeps of w."""
    m, v = slots
    m = h["beta1"] * m + h["one_minus_beta1"] * g
    v = h["beta2"] * v + h["one_minus_beta2"] * (g * g)
    return w * h["decay"] + h["alpha"] * m / (jnp.sqrt(v) + h["eps"]), (m, v)


def adagrad(h: Hyper, w: jax.Array, g: jax.Array, slots: Slots, dim: int) -> tuple[jax.Array, Slots]:
    g = g + h["weight_decay"] * w
    s = slots[0] + g * g
    return w - h["lr"] * g / (jnp.sqrt(s) + h["eps"]), (s,)


def rowwise_adagrad(h: Hyper, w: jax.Array, g: jax.Array, slots: Slots, dim: int) -> tuple[jax.Array, Slots]:
    """One s a row, of the mean square over the dim real columns."""
    g = g + h["weight_decay"] * w
    s = slots[0] + jnp.sum(g * g, axis=1, keepdims=True) / dim
    return w - h["lr"] * g / (jnp.sqrt(s) + h["eps"]), (s,)


RULES = {
    "sgd": Rule(sgd, ("lr", "weight_decay", "momentum"), (0, 1)),
    "adam": Rule(adam, ("alpha", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "eps", "decay"), (2,)),
    "adagrad": Rule(adagrad, ("lr", "weight_decay", "eps"), (1,)),
    "rowwise_adagrad": Rule(rowwise_adagrad, ("lr", "weight_decay", "eps"), (1,), sums_columns=True),
}


def rule_of(kind: str, slots: int) -> Rule:
    """The rule of that name, with so many slots.

    Raises:
      ValueError: there is no such rule, or it takes another number of slots.
    """
    if kind not in RULES:
        raise ValueError(f"kind must be one of {', '.join(RULES)}; got {kind!r}.")
    if slots not in RULES[kind].slots:
        raise ValueError(f"{kind} takes {' or '.join(map(str, RULES[kind].slots))} slots; got {slots}.")
    return RULES[kind]
