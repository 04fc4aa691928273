"""The loops of the JAX backend as Pallas kernels: each function here adapts one of pallas_kernels to jax_backend/loops.py.

XLA still does: sorts, which Triton lacks, and the numbering of sorted rows; initial values; growth, erasure and draining;
the norm of a gradient; touches of repeated keys that count once.

Sizes: N ids, B bags, P keys, V vectors, R rows, D dim, T logical tables, K numbers of a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from recis_core import pallas_kernels
from recis_core.backends.jax_backend.hashing import FORM
from recis_core.backends.jax_backend.loops import Changed, Loops, Missing, Noise, Slots, Touched
from recis_core.backends.jax_backend.touch import changes, touch_entries
from recis_core.backends.spec import UpdateRule
from recis_core.pallas_kernels.index import Index, Keys
from recis_core.pallas_kernels.insertion import Inserted, Settings
from recis_core.pallas_kernels.pack_ids import Packed
from recis_core.pallas_kernels.quantise import Quantised
from recis_core.pallas_kernels.select_rows import squared_norms as row_norms


@cache
def pallas_loops(interpret: bool) -> Loops:
    """Cached, for jit compares partials by identity. interpret: interpret kernels on the CPU, slowly."""
    loops = (
        find, touch, insert, dedup, gather_pool, row_dot, segment_sum, update, quantise, dequantise, pack_ids, unpack_ids,
        squared_norms,
    )  # fmt: skip
    return Loops(**{loop.__name__: partial(loop, interpret=interpret) for loop in loops})


def run(kernel: Callable[..., Any], *arrays: Any, interpret: bool) -> Any:
    """Run the kernel compiled; with `interpret`, interpreted on a CPU and compiled on a GPU."""
    if not interpret:
        return kernel(*arrays)
    return jax.lax.platform_dependent(*arrays, cpu=partial(kernel, interpret=True), default=kernel)


def find(index: Index, keys: Keys, valid: jax.Array, *, interpret: bool) -> jax.Array:
    kernel = partial(pallas_kernels.probe, form=FORM)
    return run(lambda *a, **o: kernel(*a, **o)[1].entry, index, keys, valid, interpret=interpret)


def touch(
    index: Index, keys: Keys, valid: jax.Array, step: jax.Array, *, counts: bool, repeats: bool, interpret: bool
) -> tuple[Index, jax.Array, Changed]:
    if counts and repeats:  # a repeated key counts once: read all scores before writing any
        entry = find(index, keys, valid, interpret=interpret)
        index, changed = touch_entries(index, entry, step, counts)
        return index, entry, changed
    kernel = partial(pallas_kernels.probe, form=FORM, touch=pallas_kernels.Touch(counts))
    index, found = run(kernel, index, keys, valid, step.reshape(1), interpret=interpret)
    return index, found.entry, changes(index, found.entry, found.scores, found.stamps, step, counts)


def insert(index: Index, keys: Keys, settings: Settings, *, evict: bool, interpret: bool) -> tuple[Index, Inserted]:
    kernel = partial(pallas_kernels.bulk_insert, form=FORM, evict=evict)
    return run(kernel, index, keys, settings, interpret=interpret)


def dedup(keys: Keys, flags: jax.Array, *, interpret: bool) -> Missing:
    """Sorts only where a key is flagged; in most calls none is."""
    size = flags.shape[0]

    def number(keys: Keys, flags: jax.Array) -> Missing:
        unique = run(pallas_kernels.dedup, keys, flags, interpret=interpret)
        position = jnp.where(jnp.arange(size, dtype=jnp.int32) < unique.offsets[-1], unique.order, size)
        return Missing(unique.keys, unique.count, position, unique.inverse.at[position].get(mode="fill", fill_value=0))

    def nothing(keys: Keys, flags: jax.Array) -> Missing:
        none = jnp.zeros(size, jnp.int32)
        return Missing(jax.tree.map(jnp.zeros_like, keys), jnp.int32(0), none + size, none)

    return jax.lax.cond(flags.any(), number, nothing, keys, flags)


def row_dot(values: jax.Array, rows: jax.Array, vectors: jax.Array, source: jax.Array, *, interpret: bool) -> jax.Array:
    return run(pallas_kernels.row_dot, values, rows, vectors, source, interpret=interpret)


def gather_pool(
    table: jax.Array,
    rows: jax.Array,
    offsets: jax.Array,
    weights: jax.Array | None,
    *,
    combiner: str,
    tile_len: int | None,
    interpret: bool,
) -> jax.Array:
    tile_len = tile_len if combiner == "tile" else None
    kernel = partial(pallas_kernels.gather_pool, combiner=combiner, tile_len=tile_len)
    return run(kernel, table, rows, offsets, weights, interpret=interpret)


def segment_sum(
    vectors: jax.Array,
    source: jax.Array,
    scale: jax.Array | None,
    offsets: jax.Array,
    count: jax.Array,
    *,
    interpret: bool,
) -> jax.Array:
    # Segments past `count` are empty, and an empty one costs a store of zeros.
    return run(pallas_kernels.segment_sum, vectors, source, offsets, scale, interpret=interpret)


def update(
    rule: UpdateRule,
    weights: jax.Array,
    slots: Slots,
    touched: Touched,
    hyper: jax.Array,
    factor: jax.Array,
    *,
    interpret: bool,
) -> tuple[jax.Array, Slots]:
    here = jnp.arange(touched.rows.shape[0], dtype=jnp.int32) < touched.count
    rows, rounding = jnp.where(here, touched.rows, -1), _rounding(touched.noise)
    step = weights, slots, rows, touched.ordinals, touched.values, hyper, factor.reshape(1), rounding
    return run(partial(pallas_kernels.fused_update, kind=rule.kind), *step, interpret=interpret)


def _rounding(noise: Noise | None) -> pallas_kernels.Rounding | None:
    if noise is None:
        return None
    keys = noise.keys
    return pallas_kernels.Rounding(noise.seed, keys.hi, keys.lo, keys.uids, noise.t.astype(jnp.uint32))


def quantise(values: jax.Array, residual: jax.Array | None, *, dtype: str, interpret: bool) -> Quantised:
    return run(partial(pallas_kernels.quantise, dtype=dtype), values, residual, interpret=interpret)


def dequantise(codes: jax.Array, scale: jax.Array, *, dtype: str, dim: int, interpret: bool) -> jax.Array:
    return run(partial(pallas_kernels.dequantise, dtype=dtype, dim=dim), codes, scale, interpret=interpret)


def pack_ids(hi: jax.Array, lo: jax.Array, count: jax.Array, *, interpret: bool) -> Packed:
    return run(pallas_kernels.pack_ids, hi, lo, count, interpret=interpret)


def unpack_ids(packed: Packed, *, size: int, interpret: bool) -> tuple[jax.Array, jax.Array]:
    return run(partial(pallas_kernels.unpack_ids, size=size), packed, interpret=interpret)


def squared_norms(values: jax.Array, *, interpret: bool) -> jax.Array:
    return run(row_norms, values, interpret=interpret)
