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
    v = h["beta2"] * v + h["one_minus_beta2"] * g * g  # in this order: g² may overflow where v does not
    return w * h["decay"] + moved(h["alpha"], m, jnp.sqrt(v) + h["eps"]), (m, v)


def adagrad(h: Hyper, w: jax.Array, g: jax.Array, slots: Slots, dim: int) -> tuple[jax.Array, Slots]:
    g = g + h["weight_decay"] * w
    s = slots[0] + g * g
    return w - moved(h["lr"], g, jnp.sqrt(s) + h["eps"]), (s,)


def rowwise_adagrad(h: Hyper, w: jax.Array, g: jax.Array, slots: Slots, dim: int) -> tuple[jax.Array, Slots]:
    """One s a row, of the mean square over the dim real columns."""
    g = g + h["weight_decay"] * w
    few = mean_share(dim)
    s = slots[0] + jnp.sum(g * (g * few), axis=1, keepdims=True) / (dim * few)
    share, unit = row_parts(h["lr"])
    root = jnp.sqrt(s) + h["eps"]
    return w - share * g / (jnp.where(root == 0, jnp.inf, root) / unit), (s,)


def moved(rate: jax.Array, g: jax.Array, root: jax.Array) -> jax.Array:
    """rate · g / root, 0 where root is 0. The rate's power of two comes last: rate · g must not under- or overflow."""
    share, unit = parts(rate)
    return share * g / jnp.where(root == 0, jnp.inf, root) * unit


def parts(rate: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(a number in ½ … 1 with the rate's sign, the power of two that is missing); that is 0 for a rate of 0."""
    bits = jax.lax.bitcast_convert_type(rate, jnp.int32)
    power = bits & jnp.int32(0x7F800000)
    unit = jax.lax.bitcast_convert_type(jnp.where(power > 0, power + jnp.int32(0x800000), 0), jnp.float32)
    share = jax.lax.bitcast_convert_type((bits & jnp.int32(~0x7F800000)) | jnp.int32(0x3F000000), jnp.float32)
    return share, unit


def row_parts(rate: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As parts, where a row's one root is divided by the power of two: kept so that root / power is a float32."""
    unit = jnp.clip(parts(rate)[1], 2.0**-60, 2.0**40)
    return rate / unit, unit


def mean_share(dim: int) -> float:
    """A power of two of at most 1/dim: squares times it add up to a sum that does not overflow before the mean does."""
    return 0.5 ** (dim - 1).bit_length()


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
