"""One optimizer step on the touched rows, in place: gradient sum, weights and slots in one pass.

Reads    U gradient rows of D float32, or the N occurrences that they are the sums of (see segment_sum);
         U rows of weights and of each slot; 8 bytes a row of numbers.
Writes   U rows of weights and of each slot, into the arrays they came from.
Ceiling  memory bandwidth: Adam in fp32 moves 28·U·D bytes, row-wise Adagrad 12·U·D + 8·U. The rounding noise of
         bfloat16 storage costs some 250 integer operations an element and no bytes.

Sizes: U rows to update, N occurrences, M source rows, R rows of the table, D dim, T logical tables, K numbers of a rule.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels.launch import launch
from recis_core.pallas_kernels.operands import FLOATS, check_dtype, check_shape
from recis_core.pallas_kernels.rounding import Rounding, noise, round_to_bfloat16
from recis_core.pallas_kernels.rules import RULES, Hyper, rule_of
from recis_core.pallas_kernels.segment_sum import Segments, Terms, check_segments, phase_1, phase_2
from recis_core.pallas_kernels.tuning import RowConfig, pool_config, row_config, update_config, width

Ref = Any
SUM_UNROLL = 2  # occurrences in flight: weights and slots need registers, too


def fused_update(
    weights: jax.Array,
    slots: tuple[jax.Array, ...],
    rows: jax.Array,
    ordinals: jax.Array,
    values: jax.Array,
    hyper: jax.Array,
    factor: jax.Array,
    rounding: Rounding | None = None,
    segments: Segments | None = None,
    *,
    kind: str,
    config: RowConfig | None = None,
    interpret: bool = False,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Apply an optimizer to the named rows; the others are left alone.

    Donate weights and slots to the jit around this call: they are aliased to the results.

    Args:
      weights: [R, D] float32, or bfloat16, which is rounded stochastically by `rounding`.
      slots: float32 [R, D] or [R, 1] each, in the order of the rule.
      rows: [U] int32, distinct; -1 is padding.
      ordinals: [U] int32 logical tables, which choose the line of hyper.
      values: [U, D] gradients; with segments [M, D], of which row u's gradient is the sum of its segment's,
        Σ segments.weights[i] · values[segments.sources[i]], added in segment_sum's order and to its bits.
      hyper: float32 [T, K], a line per logical table: see rules.RULES.
      factor: float32 [1], multiplies the gradient.
      kind: sgd, adam (AdamW and AdamW-TF are its hyper numbers), adagrad or rowwise_adagrad.

    Returns:
      weights and slots.

    Raises:
      TypeError, ValueError: a dtype, a shape, the kind or its number of slots is wrong.
    """
    _check(weights, slots, rows, ordinals, values, hyper, factor, rounding, segments, kind)
    if rows.shape[0] == 0 or weights.shape[0] == 0:
        return weights, slots
    dim = weights.shape[1]
    config = config or (row_config if RULES[kind].sums_columns else update_config)(dim)
    gradient = values if segments is None else phase_1(values, segments, pool_config(dim), interpret)
    operands = (rows, ordinals, gradient, hyper, factor, rounding)
    state = (weights, tuple(slots))
    before = len(jax.tree.leaves(operands))
    return launch(
        partial(update_kernel, kind=kind, config=config), *operands, *state,
        programs=-(-rows.shape[0] // config.rows), num_warps=config.num_warps, interpret=interpret,
        out_shape=jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state),
        aliases={before + i: i for i in range(1 + len(slots))},
    )  # fmt: skip


def update_kernel(
    rows: Ref, ordinals: Ref, gradient: Any, hyper: Ref, factor: Ref, rounding: Rounding | None,
    weights: Ref, slots: tuple[Ref, ...], out_weights: Ref, out_slots: tuple[Ref, ...],
    *, kind: str, config: RowConfig,
) -> None:  # fmt: skip
    """One program: `config.rows` rows, each read and written by it alone."""
    dim = weights.shape[1]
    at = pl.program_id(0) * config.rows + jnp.arange(config.rows, dtype=jnp.int32)
    row = plt.load(rows.at[at], mask=at < rows.shape[0], other=-1)
    here = row >= 0
    # Interpret mode writes masked lanes back, too, and would undo row 0's update; a row past the end it drops.
    row = jnp.where(here, row, weights.shape[0])
    ordinal = plt.load(ordinals.at[at], mask=here, other=0)
    column = jnp.arange(width(dim), dtype=jnp.int32)
    g = _gradient(gradient, at, here, column) * plt.load(factor.at[jnp.int32(0)])
    w = _load(weights, row, here, column)
    loaded = tuple(_load(slot, row, here, column) for slot in slots)
    w, loaded = RULES[kind].apply(_hyper(hyper, ordinal, here, kind), w, g, loaded, dim)
    if rounding is not None:
        w = round_to_bfloat16(w, _noise(rounding, at, here, column))
    for out, value in zip((out_weights, *out_slots), (w, *loaded), strict=True):
        _store(out, value, row, here, column)


def _gradient(gradient: Any, at: jax.Array, here: jax.Array, column: jax.Array) -> jax.Array:
    if isinstance(gradient, Terms):
        return phase_2(gradient, at, here, column, SUM_UNROLL)
    return _load(gradient, at, here, column)


def _tile(
    ref: Ref, row: jax.Array, here: jax.Array, column: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """Index and mask of those rows; one column stands for a slot of one number a row."""
    column = column if ref.shape[1] > 1 else jnp.zeros((1,), jnp.int32)
    return (row[:, None], column[None, :]), here[:, None] & (column < ref.shape[1])[None, :]


def _load(ref: Ref, row: jax.Array, here: jax.Array, column: jax.Array) -> jax.Array:
    at, mask = _tile(ref, row, here, column)
    return plt.load(ref.at[at], mask=mask, other=0).astype(jnp.float32)


def _store(ref: Ref, value: jax.Array, row: jax.Array, here: jax.Array, column: jax.Array) -> None:
    at, mask = _tile(ref, row, here, column)
    plt.store(ref.at[at], value.astype(ref.dtype), mask=mask)


def _hyper(hyper: Ref, ordinal: jax.Array, here: jax.Array, kind: str) -> Hyper:
    """Each number of the rule, [rows, 1], from the line of the row's logical table."""
    numbers = range(len(RULES[kind].hyper))
    loaded = [plt.load(hyper.at[ordinal, jnp.full_like(ordinal, k)], mask=here, other=0.0) for k in numbers]
    return {name: number[:, None] for name, number in zip(RULES[kind].hyper, loaded, strict=True)}


def _noise(rounding: Any, at: jax.Array, here: jax.Array, column: jax.Array) -> jax.Array:
    seed = plt.load(rounding.seed.at[jnp.int32(0)]), plt.load(rounding.seed.at[jnp.int32(1)])
    hi, lo, uid, t = (plt.load(ref.at[at], mask=here, other=0) for ref in rounding[1:])
    return noise(seed, hi, lo, uid, t, column.astype(jnp.uint32))


def _check(
    weights: jax.Array, slots: tuple[jax.Array, ...], rows: jax.Array, ordinals: jax.Array, values: jax.Array,
    hyper: jax.Array, factor: jax.Array, rounding: Rounding | None, segments: Segments | None, kind: str,
) -> None:  # fmt: skip
    rule = rule_of(kind, len(slots))
    check_shape("weights", weights, (None, None))
    check_dtype("weights", weights, ("float32", "bfloat16"))
    for slot in slots:
        check_dtype("slots", slot, ("float32",))
        check_shape("slots", slot, (weights.shape[0], 1 if kind == "rowwise_adagrad" else weights.shape[1]))
    for name, numbers in (("rows", rows), ("ordinals", ordinals)):
        check_shape(name, numbers, rows.shape[:1])
        check_dtype(name, numbers, ("int32",))
    check_shape("values", values, (rows.shape[0] if segments is None else None, weights.shape[1]))
    check_dtype("values", values, FLOATS)
    if segments is not None:
        check_segments(values, segments)
        check_shape("segments.offsets", segments.offsets, (rows.shape[0] + 1,))
    check_shape("hyper", hyper, (None, len(rule.hyper)))
    check_shape("factor", factor, (1,))
    _check_rounding(weights, rows, rounding)


def _check_rounding(weights: jax.Array, rows: jax.Array, rounding: Rounding | None) -> None:
    if (weights.dtype == jnp.bfloat16) != (rounding is not None):
        raise ValueError(f"rounding goes with bfloat16 weights and with no others; got {weights.dtype} and {rounding}.")
    if rounding is None:
        return
    for name, numbers in rounding._asdict().items():
        check_shape(f"rounding.{name}", numbers, (2,) if name == "seed" else rows.shape)
        check_dtype(f"rounding.{name}", numbers, ("uint32",))
