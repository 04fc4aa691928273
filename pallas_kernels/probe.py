"""Find keys in a bucketed index, and in the same pass stamp and score the found entries.

Reads    12 bytes a key; 8·W bytes of fingerprints in its two candidate buckets; 16 bytes of the way that matched.
Writes   8 bytes a key; touching, 8 bytes of the entry and 8 a key of what it held before.
Ceiling  random sectors: at W = 16 a key touches four of fingerprints, four of its entry, and two more if it is
         touched; hot keys come from L2.

Sizes: N keys, S buckets, W ways, E entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels.index import Format, Index, Keys, candidates, check_index, check_keys, tags
from recis_core.pallas_kernels.launch import launch
from recis_core.pallas_kernels.operands import check_dtype, check_shape
from recis_core.pallas_kernels.tuning import KeyConfig, probe_config

Ref = Any


class Found(NamedTuple):
    """Each key's entry and row, -1 where it is absent; and its score and stamp before this call."""

    entry: jax.Array  # int32 [N]
    rows: jax.Array  # int32 [N]
    scores: jax.Array | None = None  # int32 [N], 0 where nothing was found
    stamps: jax.Array | None = None  # int32 [N]


@dataclass(frozen=True)
class Touch:
    """How a found entry changes: its stamp becomes the step; its score, too, or counts one more touch."""

    counts: bool = False


def probe(
    index: Index,
    keys: Keys,
    valid: jax.Array,
    step: jax.Array | None = None,
    *,
    form: Format,
    touch: Touch | None = None,
    config: KeyConfig | None = None,
    interpret: bool = False,
) -> tuple[Index, Found]:
    """Look each valid key up in its two candidate buckets, then, where the stash holds any, there.

    Args:
      index: W at most 16. With `touch`, donate its scores and stamps: they are aliased to the results.
      keys: [N]; they may repeat, but for touch.counts, where each valid key must be unique.
      valid: bool [N].
      step: int32 [1], with touch and only then.

    Returns:
      The index, and what was found. For an entry found several times in one call the score and stamp before may be the
      new ones, but nothing else.

    Raises:
      TypeError, ValueError: a dtype or a shape is wrong.
    """
    _check(index, keys, valid, step, touch)
    count = valid.shape[0]
    if count == 0:
        none = jnp.zeros(0, jnp.int32)
        return index, Found(none, none, none, none) if touch else Found(none, none)
    config = config or probe_config(index.tags.shape[1])
    column = jax.ShapeDtypeStruct((count,), jnp.int32)
    fixed = (keys, valid, _searched(index))
    run = partial(launch, programs=-(-count // config.keys), num_warps=config.num_warps, interpret=interpret)
    if touch is None:
        kernel = partial(probe_kernel, form=form, config=config)
        return index, run(kernel, *fixed, out_shape=(Found(column, column),))[0]
    changed = (index.scores, index.stamps)
    flat = len(jax.tree.leaves(fixed)) + 1
    (scores, stamps), found = run(
        partial(touch_kernel, form=form, touch=touch, config=config), *fixed, step, changed,
        out_shape=(tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in changed), Found(*(column,) * 4)),
        aliases={flat: 0, flat + 1: 1},
    )  # fmt: skip
    return index._replace(scores=scores, stamps=stamps), found


def _searched(index: Index) -> Index:
    """The arrays that a search reads."""
    others = dict.fromkeys(("scores", "stamps", "free", "free_count", "next_row", "taken", "claims"))
    return index._replace(stashed=index.stashed.reshape(1), **others)


def probe_kernel(keys: Any, valid: Ref, index: Any, out: Any, *, form: Format, config: KeyConfig) -> None:
    """One program: `config.keys` keys, found and not touched."""
    _find(keys, valid, index, out, form, config)


def touch_kernel(
    keys: Any, valid: Ref, index: Any, step: Ref, _: Any, changed: tuple[Ref, Ref], out: Any,
    *, form: Format, touch: Touch, config: KeyConfig,
) -> None:  # fmt: skip
    """As probe_kernel; then stamp and score, in place."""
    at, here, entry = _find(keys, valid, index, out, form, config)
    scores, stamps = changed
    found = entry >= 0
    # A lane that found nothing points past the end, for interpret mode writes masked lanes back.
    into = jnp.where(found, entry, scores.shape[0])
    score, stamp = (plt.load(array.at[into], mask=found, other=0) for array in changed)
    now = jnp.zeros_like(entry) + plt.load(step.at[jnp.int32(0)])
    plt.store(out.scores.at[at], score, mask=here)
    plt.store(out.stamps.at[at], stamp, mask=here)
    plt.store(scores.at[into], score + 1 if touch.counts else now, mask=found)
    plt.store(stamps.at[into], now, mask=found)


def _find(
    keys: Any, valid: Ref, index: Any, out: Any, form: Format, config: KeyConfig
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(positions, whether they are inside, entries) of this program's keys; entries and rows are stored."""
    at = pl.program_id(0) * config.keys + jnp.arange(config.keys, dtype=jnp.int32)
    here = at < out.entry.shape[0]
    real = plt.load(valid.at[at], mask=here, other=False)
    mine = Keys(*(plt.load(words.at[at], mask=here, other=0) for words in keys))
    a, b = candidates(mine, index.tags.shape[0], form)
    tag = tags(mine, form)
    matches = _matches(index.tags, a, tag, real) | (_matches(index.tags, b, tag, real) << index.tags.shape[1])
    entry, row = _compare(index, mine, a, b, matches)
    entry, row = _search_stash(index, mine, real, entry, row)
    plt.store(out.entry.at[at], entry, mask=here)
    plt.store(out.rows.at[at], row, mask=here)
    return at, here, entry


def _matches(tags: Ref, bucket: jax.Array, tag: jax.Array, real: jax.Array) -> jax.Array:
    """Bit w of int32 [keys] says that way w of the bucket has the fingerprint."""
    way = jnp.arange(tags.shape[1], dtype=jnp.int32)
    held = plt.load(tags.at[bucket[:, None], way[None, :]], mask=real[:, None] & (way >= 0)[None, :], other=0)
    bits = jnp.where((held == tag[:, None]) & real[:, None], (jnp.int32(1) << way)[None, :], 0)
    return jnp.sum(bits, axis=1, dtype=jnp.int32)


def _compare(index: Any, keys: Keys, a: jax.Array, b: jax.Array, matches: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Entry and row of the way that holds the key, among those whose fingerprint matches: one trip, rarely two."""
    ways = index.tags.shape[1]

    def trip(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        matches, entry, row = state
        way = jax.lax.population_count((matches & -matches) - 1)
        at = jnp.where(way < ways, a * ways + way, b * ways + way - ways)
        held = _row_if_holds(index, jnp.where(matches != 0, at, 0), keys, matches != 0)
        hit = held >= 0
        return jnp.where(hit, 0, matches & (matches - 1)), jnp.where(hit, at, entry), jnp.where(hit, held, row)

    nothing = jnp.full_like(matches, -1)
    return jax.lax.while_loop(lambda s: jnp.max(jnp.where(s[0] != 0, 1, 0)) > 0, trip, (matches, nothing, nothing))[1:]


def _row_if_holds(index: Any, at: jax.Array, keys: Keys, lanes: jax.Array) -> jax.Array:
    """The row of the entry where it holds the key, else -1."""
    lo, hi, uids = (plt.load(x.at[at], mask=lanes, other=0) for x in (index.lo, index.hi, index.uids))
    row = plt.load(index.rows.at[at], mask=lanes, other=-1)
    return jnp.where(lanes & (lo == keys.lo) & (hi == keys.hi) & (uids == keys.uids), row, -1)


def _search_stash(
    index: Any, keys: Keys, real: jax.Array, entry: jax.Array, row: jax.Array
) -> tuple[jax.Array, jax.Array]:
    begin = index.tags.shape[0] * index.tags.shape[1]
    missing = jnp.max(jnp.where(real & (entry < 0), 1, 0))

    def look(k: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        entry, row = state
        at = jnp.full_like(entry, begin) + k
        held = _row_if_holds(index, at, keys, real & (entry < 0))
        return jnp.where(held >= 0, at, entry), jnp.where(held >= 0, held, row)

    trips = plt.load(index.stashed.at[jnp.int32(0)]) * missing
    return jax.lax.fori_loop(0, trips, look, (entry, row))


def _check(index: Index, keys: Keys, valid: jax.Array, step: jax.Array | None, touch: Touch | None) -> None:
    check_index(index)
    check_keys(keys)
    check_shape("valid", valid, keys.lo.shape)
    check_dtype("valid", valid, ("bool",))
    if (touch is None) != (step is None):
        raise ValueError(f"step goes with touch, and touch with step; got step={step} and touch={touch}.")
    if step is not None:
        check_shape("step", step, (1,))
        check_dtype("step", step, ("int32",))
