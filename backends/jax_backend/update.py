"""One optimizer step on touched rows, in place: the XLA form of loops.Update.

Reads and writes the touched rows of weights and slots, C rows at a time, up to their real number.

Sizes: P touched rows (padded), C rows of a chunk, R rows, D dim, T logical tables, K numbers of a rule.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.cache_warming import C, warmed
from recis_core.backends.jax_backend.initial_values import noisy_bfloat16, words
from recis_core.backends.jax_backend.loops import Noise, Slots, Touched
from recis_core.backends.jax_backend.new_rows import chunked
from recis_core.backends.spec import RULES, UpdateRule
from recis_core.pallas_kernels.rules import mean_share, moved, row_parts

Numbers = dict[str, jax.Array]
Step = Callable[[jax.Array, jax.Array, Slots, Numbers], tuple[jax.Array, Slots]]


def update(
    rule: UpdateRule, weights: jax.Array, slots: Slots, touched: Touched, hyper: jax.Array, factor: jax.Array
) -> tuple[jax.Array, Slots]:
    """See loops.Update."""
    size = min(C, touched.rows.shape[0])
    lanes = touched._replace(count=None, noise=None if touched.noise is None else touched.noise._replace(seed=None))
    lanes = jax.tree.map(lambda x: chunked(x, size), lanes)

    def step(state: tuple[jax.Array, jax.Array, Slots]) -> tuple[jax.Array, jax.Array, Slots]:
        beg, weights, slots = state
        chunk = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, beg, size), lanes)
        inside = beg + jnp.arange(size, dtype=jnp.int32) < touched.count
        at = jnp.where(inside & (chunk.rows >= 0), chunk.rows, weights.shape[0])
        w, values = _stepped(rule, weights, slots, at, chunk, hyper, factor)
        noise = None if touched.noise is None else chunk.noise._replace(seed=touched.noise.seed)
        weights = weights.at[at].set(_stored(w, weights, noise), mode="drop", unique_indices=True)
        slots = tuple(s.at[at].set(v, mode="drop", unique_indices=True) for s, v in zip(slots, values, strict=True))
        return beg + size, weights, slots

    return jax.lax.while_loop(lambda s: s[0] < touched.count, step, (jnp.int32(0), weights, slots))[1:]


def _stepped(
    rule: UpdateRule,
    weights: jax.Array,
    slots: Slots,
    at: jax.Array,
    chunk: Touched,
    hyper: jax.Array,
    factor: jax.Array,
) -> tuple[jax.Array, Slots]:
    known = jnp.where(at < weights.shape[0], at, 0)
    w, *values = (x.at[warmed(known, x)].get(mode="promise_in_bounds").astype(jnp.float32) for x in (weights, *slots))
    line = hyper.at[chunk.ordinals].get(mode="clip")
    numbers = {name: line[:, k : k + 1] for k, name in enumerate(RULES[rule.kind])}
    return STEPS[rule.kind](chunk.values * factor, w, tuple(values), numbers)


def _stored(w: jax.Array, weights: jax.Array, noise: Noise | None) -> jax.Array:
    if noise is None:
        return w
    return noisy_bfloat16(w, words(noise.seed, noise.keys, weights.shape[1], noise.t))


def _sgd(g: jax.Array, w: jax.Array, slots: Slots, h: Numbers) -> tuple[jax.Array, Slots]:
    g = g + h["weight_decay"] * w
    if slots:
        g = h["momentum"] * slots[0] + g
    return w - h["lr"] * g, (g,) if slots else ()


def _adam(g: jax.Array, w: jax.Array, slots: Slots, h: Numbers) -> tuple[jax.Array, Slots]:
    m = h["beta1"] * slots[0] + h["one_minus_beta1"] * g
    v = h["beta2"] * slots[1] + h["one_minus_beta2"] * g * g
    return h["decay"] * w + moved(h["alpha"], m, jnp.sqrt(v) + h["eps"]), (m, v)


def _adagrad(g: jax.Array, w: jax.Array, slots: Slots, h: Numbers) -> tuple[jax.Array, Slots]:
    g = g + h["weight_decay"] * w
    s = slots[0] + g * g
    return w - moved(h["lr"], g, jnp.sqrt(s) + h["eps"]), (s,)


def _rowwise_adagrad(g: jax.Array, w: jax.Array, slots: Slots, h: Numbers) -> tuple[jax.Array, Slots]:
    g = g + h["weight_decay"] * w
    share = mean_share(g.shape[1])
    s = slots[0] + jnp.sum(g * (g * share), axis=1, keepdims=True) / (g.shape[1] * share)
    share, unit = row_parts(h["lr"])
    root = jnp.sqrt(s) + h["eps"]
    return w - share * g / (jnp.where(root == 0, jnp.inf, root) / unit), (s,)


STEPS: dict[str, Step] = {"sgd": _sgd, "adam": _adam, "adagrad": _adagrad, "rowwise_adagrad": _rowwise_adagrad}
