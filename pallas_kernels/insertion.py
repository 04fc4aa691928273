"""New keys into an index, in place, chunk by chunk; all of them or, where one finds no room, none.

Stages place and write a chunk: Pallas kernels in bulk_insert, XLA in jax_backend. Conditional work on the index is a
while loop of one or no trips: lax.cond would keep a second index.

Sizes: Q new keys (padded), M lanes of a chunk, E entries, S buckets, W ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from recis_core.pallas_kernels.index import NOWHERE, Format, Index, Keys, tags
from recis_core.pallas_kernels.order import compact

FEW = 1024  # lanes of the loop for so few new keys, which is what a trained table meets in most steps
MANY = 8192  # below so many lanes one loop is enough, and half as much to compile


class Holding(NamedTuple):
    """The old content of entries, rows -1 where they were free: to take an insertion back, and to drain."""

    keys: Keys
    rows: jax.Array
    scores: jax.Array
    stamps: jax.Array


class Evicted(NamedTuple):
    """Evicted keys, and the rows to drain, which the new keys have now; the first `count`, without holes."""

    keys: Keys  # [Q]
    rows: jax.Array  # int32 [Q]
    by: jax.Array  # int32 [Q], the new key in whose favour, ascending
    count: jax.Array  # int32 []


def held_at(index: Index, entry: jax.Array) -> Holding:
    """What entries int32 [M] hold; rows -1 where the entry is negative."""
    at = jnp.where(entry >= 0, entry, index.entries)
    read = lambda x, fill: x.at[at].get(mode="fill", fill_value=fill)  # noqa: E731
    keys = Keys(*(read(x, 0) for x in (index.lo, index.hi, index.uids)))
    return Holding(keys, read(index.rows, -1), read(index.scores, 0), read(index.stamps, 0))


class Inserted(NamedTuple):
    """Where new keys went."""

    rows: jax.Array  # int32 [Q], -1 past the last, and everywhere where the call failed
    evicted: Evicted | None  # where keys may be evicted
    failed: jax.Array  # bool []; the index is then as it was


class Written(NamedTuple):
    """Writes of the chunks so far, to take them back."""

    entry: jax.Array  # int32 [Q], E past the last
    rows: jax.Array  # int32 [Q], -1 past the last
    before: Holding | None  # [Q], where keys may be evicted
    failed: jax.Array  # bool []


class Progress(NamedTuple):
    index: Index
    done: jax.Array  # int32 [], keys
    written: Written


class Settings(NamedTuple):
    """How to insert; the same for every chunk."""

    count: jax.Array  # int32 [], new keys
    max_rows: jax.Array  # int32 []
    step: jax.Array  # int32 [], the new keys' stamp
    pinned_from: jax.Array  # int32 [], entries stamped at or after it are no victims
    score: jax.Array  # int32 [], of a new key


class Place(Protocol):
    def __call__(
        self, index: Index, keys: Keys, valid: jax.Array, has_room: jax.Array, pinned_from: jax.Array, *, evict: bool
    ) -> tuple[Index, jax.Array, Holding | None]:
        """An entry int32 [M] for each valid key or -1, and its old content; only scratch of the index changes.

        Lanes with room may take free ways; where `evict`, lanes without one may take a victim's.
        """
        ...


class Write(Protocol):
    def __call__(self, index: Index, entry: jax.Array, keys: Keys, rows: jax.Array, settings: Settings) -> Index:
        """Write keys [M] into their entries, which are distinct, or E: written nowhere."""
        ...


@dataclass(frozen=True)
class Stages:
    place: Place
    write: Write


def insert(
    index: Index, keys: Keys, settings: Settings, *, evict: bool, form: Format, stages: Stages
) -> tuple[Index, Inserted]:
    """Insert keys [Q], the first `count` of which are unique, absent and ascending by (uid, signed id)."""
    size = keys.lo.shape[0]
    lanes = min(size, form.chunk)
    padded = -(-size // lanes) * lanes
    keys = jax.tree.map(lambda x: jnp.pad(x, (0, padded - size)), keys)
    before = index
    progress = Progress(index, jnp.int32(0), _nothing(index, padded, _too_many(index, settings, evict), evict))
    for m in (FEW, lanes) if lanes > MANY else (lanes,):
        progress = _chunks(progress, keys, settings, m, last=m == lanes, evict=evict, stages=stages)
    written = progress.written
    index = _undo_if_failed(progress.index, before, written, keys, evict=evict, form=form)
    rows = jnp.where(written.failed, -1, written.rows)[:size]
    return index, Inserted(rows, _evicted(written, size) if evict else None, written.failed)


def _evicted(written: Written, size: int) -> Evicted:
    """Compacted; none where the call failed."""
    held = jax.tree.map(lambda x: x[:size], written.before)
    displaced = (held.rows >= 0) & ~written.failed
    number = jnp.arange(size, dtype=jnp.int32)
    packed = jax.lax.cond(
        displaced.any(),
        lambda x: jax.tree.map(lambda y: compact(y, displaced), x),
        lambda x: jax.tree.map(jnp.zeros_like, x),
        (held.keys, held.rows, number),
    )
    return Evicted(*packed, displaced.sum(dtype=jnp.int32))


def _too_many(index: Index, settings: Settings, evict: bool) -> jax.Array:
    return jnp.array(False) if evict else settings.count > settings.max_rows - index.used


def _nothing(index: Index, size: int, failed: jax.Array, evict: bool) -> Written:
    zeros = jnp.zeros(size, jnp.int32)
    words = Keys(*(jnp.zeros(size, jnp.uint32),) * 3)
    before = Holding(words, zeros - 1, zeros, zeros) if evict else None
    return Written(zeros + index.entries, zeros - 1, before, failed)


def _chunks(
    progress: Progress, keys: Keys, settings: Settings, lanes: int, *, last: bool, evict: bool, stages: Stages
) -> Progress:
    """Go on in chunks of `lanes`: in the last loop to the end, in an earlier one only if a single chunk is enough."""

    def goes_on(p: Progress) -> jax.Array:
        fits = True if last else settings.count <= lanes
        return (p.done < settings.count) & ~p.written.failed & fits

    step = partial(_chunk, keys=keys, settings=settings, lanes=lanes, evict=evict, stages=stages)
    return jax.lax.while_loop(goes_on, step, progress)


def _chunk(p: Progress, *, keys: Keys, settings: Settings, lanes: int, evict: bool, stages: Stages) -> Progress:
    keys = jax.tree.map(lambda x: jax.lax.dynamic_slice(x, (p.done,), (lanes,)), keys)
    lane = jnp.arange(lanes, dtype=jnp.int32)
    valid = p.done + lane < settings.count
    room = jnp.minimum(settings.max_rows - p.index.used, NOWHERE)
    index, entry, held = stages.place(p.index, keys, valid, lane < room, settings.pinned_from, evict=evict)
    index, entry, rows, failed = _rows_and_stash(index, entry, held, valid, room)
    index = stages.write(index, entry, keys, rows, settings)
    written = Written(
        _put(p.written.entry, entry, p.done),
        _put(p.written.rows, jnp.where(valid & ~failed, rows, -1), p.done),
        _put(p.written.before, held._replace(rows=jnp.where(valid, held.rows, -1)), p.done) if held else None,
        failed,
    )
    return Progress(index, p.done + lanes, written)


def _put(into: object, chunk: object, at: jax.Array) -> object:
    return jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice(x, y, (at,)), into, chunk)


def _rows_and_stash(
    index: Index, entry: jax.Array, held: Holding | None, valid: jax.Array, room: jax.Array
) -> tuple[Index, jax.Array, jax.Array, jax.Array]:
    """Send pending keys to the stash, give each key a row: (index; entries, E for none; rows; failed)."""
    pending = valid & (entry < 0)
    entry = jnp.where(pending, index.ways + index.stashed + jnp.cumsum(pending, dtype=jnp.int32) - 1, entry)
    needs = valid if held is None else valid & (held.rows < 0)
    wanted, waiting = needs.sum(dtype=jnp.int32), pending.sum(dtype=jnp.int32)
    failed = (wanted > room) | (waiting > index.entries - index.ways - index.stashed)
    nth = jnp.cumsum(needs, dtype=jnp.int32) - 1
    popped = index.free.at[index.free_count - 1 - nth].get(mode="clip")
    rows = jnp.where(nth < index.free_count, popped, index.next_row + nth - index.free_count)
    rows = rows if held is None else jnp.where(needs, rows, held.rows)
    reused = jnp.minimum(wanted, index.free_count)
    index = index._replace(
        free_count=jnp.where(failed, index.free_count, index.free_count - reused),
        next_row=jnp.where(failed, index.next_row, index.next_row + wanted - reused),
        stashed=jnp.where(failed, index.stashed, index.stashed + waiting),
    )
    return index, jnp.where(valid & ~failed, entry, index.entries), rows, failed


def _undo_if_failed(index: Index, before: Index, written: Written, keys: Keys, *, evict: bool, form: Format) -> Index:
    """Take back earlier chunks' writes. A loop of no trips unless a later chunk failed."""
    ways = index.tags.shape[1]
    numbers = (before.free_count, before.next_row, before.stashed)

    def undo(state: tuple[jax.Array, Index]) -> tuple[jax.Array, Index]:
        index = state[1]
        held = written.before or Holding(keys, jnp.full_like(written.rows, -1), written.rows, written.rows)
        entry = written.entry
        index = index._replace(
            tags=index.tags.at[entry // ways, entry % ways].set(tags(held.keys, form), mode="drop"),
            rows=index.rows.at[entry].set(held.rows, mode="drop"),
            free_count=numbers[0], next_row=numbers[1], stashed=numbers[2],
        )  # fmt: skip
        return jnp.int32(0), _put_back(index, entry, held) if evict else index

    trips = written.failed.astype(jnp.int32)
    return jax.lax.while_loop(lambda s: s[0] > 0, undo, (trips, index))[1]


def _put_back(index: Index, entry: jax.Array, held: Holding) -> Index:
    fields = {
        "lo": held.keys.lo,
        "hi": held.keys.hi,
        "uids": held.keys.uids,
        "scores": held.scores,
        "stamps": held.stamps,
    }
    return index._replace(**{name: getattr(index, name).at[entry].set(x, mode="drop") for name, x in fields.items()})
