"""Insert new keys into a bucketed index, in place and without atomics: lists of ways, rounds of requests, one write.

Reads    a new key: 12 bytes, its lists (bucket_offers.py), its rounds (placement_rounds.py); evicting, 24 of the victim.
Writes   32 bytes a new key, in 7 arrays, each a sector of its own.
Ceiling  launches: some 20 a chunk of new keys, then random sectors.

Sizes: Q new keys (padded), M lanes of a chunk, S buckets, W ways, E entries.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels.bucket_offers import free_ways, victims
from recis_core.pallas_kernels.index import Format, Index, Keys, candidates, check_index, check_keys, tags
from recis_core.pallas_kernels.insertion import Holding, Inserted, Settings, Stages, held_at, insert
from recis_core.pallas_kernels.launch import launch
from recis_core.pallas_kernels.operands import check_dtype, check_shape
from recis_core.pallas_kernels.placement_rounds import Game, play
from recis_core.pallas_kernels.tuning import KeyConfig, lane_config

Ref = Any


def bulk_insert(
    index: Index,
    keys: Keys,
    settings: Settings,
    *,
    form: Format,
    evict: bool = False,
    config: KeyConfig | None = None,
    interpret: bool = False,
) -> tuple[Index, Inserted]:
    """Insert new keys in chunks of form.chunk, so that the cost depends on their number, not on the index's size.

    Donate the index: it is updated in place.

    Args:
      index: W at most 16.
      keys: [Q], the first settings.count of which are unique, absent and ascending by (uid, signed id).
      evict: whether keys that find no free way may displace others, those of the lowest (score, uid, id) first.

    Returns:
      The index; new rows in the keys' order: the victim's, or erased rows (last erased, first used), then rows never
      used; the evicted keys and the rows to drain, without holes. Keys without a way go to the stash.
      Where rows or the stash run out, `failed` is true and the index unchanged.

    Raises:
      TypeError, ValueError: a dtype or a shape is wrong.
    """
    check_index(index)
    check_keys(keys)
    for name, number in settings._asdict().items():
        check_shape(f"settings.{name}", number, ())
        check_dtype(f"settings.{name}", number, ("int32",))
    options = {"form": form, "config": config or lane_config(index.tags.shape[1]), "interpret": interpret}
    stages = Stages(partial(place, **options), partial(write, **options))
    return insert(index, keys, settings, evict=evict, form=form, stages=stages)


def place(
    index: Index, keys: Keys, valid: jax.Array, has_room: jax.Array, pinned_from: jax.Array,
    *, evict: bool, form: Format, config: KeyConfig, interpret: bool,
) -> tuple[Index, jax.Array, Holding | None]:  # fmt: skip
    """See insertion.Place."""
    how = {"config": config, "interpret": interpret}
    rounds = partial(play, rounds=form.rounds, ways=index.tags.shape[1], **how)
    both = candidates(keys, index.buckets, form)
    game = Game(both, free_ways(index, both, **how), valid & has_room, None)
    taken, entry = rounds(game, index.taken)
    if not evict:
        return index._replace(taken=taken), entry, None
    game = Game(both, victims(index, both, pinned_from, **how), valid & (entry < 0), index.scores)
    taken, won = rounds(game, taken)
    return index._replace(taken=taken), jnp.where(won >= 0, won, entry), held_at(index, won)


def write(
    index: Index, entry: jax.Array, keys: Keys, rows: jax.Array, settings: Settings,
    *, form: Format, config: KeyConfig, interpret: bool,
) -> Index:  # fmt: skip
    """See insertion.Write."""
    words = (index.tags, *(getattr(index, name) for name in FIELDS))
    fixed = (entry, keys, rows, settings.score.reshape(1), settings.step.reshape(1))
    flat = len(jax.tree.leaves(fixed))
    tags, *fields = launch(
        partial(write_kernel, form=form, config=config), *fixed, words,
        programs=-(-entry.shape[0] // config.keys), num_warps=config.num_warps, interpret=interpret,
        out_shape=tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in words),
        aliases={flat + i: i for i in range(len(words))},
    )  # fmt: skip
    return index._replace(tags=tags, **dict(zip(FIELDS, fields, strict=True)))


FIELDS = ("lo", "hi", "uids", "rows", "scores", "stamps")


def write_kernel(
    entry: Ref, keys: Any, rows: Ref, score: Ref, step: Ref, _: Any, ways: Ref, *fields: Ref,
    form: Format, config: KeyConfig,
) -> None:  # fmt: skip
    """One program: `config.keys` lanes; an entry of the stash has no fingerprint."""
    lane = pl.program_id(0) * config.keys + jnp.arange(config.keys, dtype=jnp.int32)
    here = lane < entry.shape[0]
    at = plt.load(entry.at[lane], mask=here, other=fields[0].shape[0])
    mine = Keys(*(plt.load(words.at[lane], mask=here, other=0) for words in keys))
    score, step = (jnp.zeros_like(at) + plt.load(number.at[jnp.int32(0)]) for number in (score, step))
    values = (*mine, plt.load(rows.at[lane], mask=here, other=-1), score, step)
    for field, value in zip(fields, values, strict=True):
        plt.store(field.at[at], value, mask=at < field.shape[0])
    way = ways.shape[1]
    plt.store(ways.at[at // way, at % way], tags(mine, form), mask=at < ways.shape[0] * way)
