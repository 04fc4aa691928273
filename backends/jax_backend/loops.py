"""The loops that cost the most, as fields: XLA's are in xla_loops.py, Pallas kernels in pallas_backend/pallas_loops.py.

Each is traced inside a larger jitted program, on JAX arrays alone. `JaxBackend(loops)` is the one place of replacement.

Sizes: N ids (padded), B bags (padded), P keys (padded), V vectors, R rows, D dim, T logical tables, K numbers of a rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax

from recis_core.backends.spec import UpdateRule
from recis_core.pallas_kernels.index import Index, Keys
from recis_core.pallas_kernels.insertion import Inserted, Settings
from recis_core.pallas_kernels.pack_ids import Packed
from recis_core.pallas_kernels.quantise import Quantised

Slots = tuple[jax.Array, ...]


class Noise(NamedTuple):
    """Source of bfloat16 rounding noise: words(seed, uid, id, counter=t) & 0xFFFF, a word a column."""

    seed: jax.Array  # uint32 [2], high word first
    keys: Keys  # [P]
    t: jax.Array  # int32 [P], applied steps of the key's logical table


class Touched(NamedTuple):
    """Rows of an optimizer step: the first `count` are distinct; row -1 is left out."""

    rows: jax.Array  # int32 [P]
    ordinals: jax.Array  # int32 [P], the lines of hyper
    values: jax.Array  # float32 [P, D], summed gradient; what lies past `count` is not to be read
    count: jax.Array  # int32 []
    noise: Noise | None  # with bfloat16 weights


class Missing(NamedTuple):
    """Keys [N], the first `count` of them unique and in key order; and the occurrences of each."""

    keys: Keys
    count: jax.Array  # int32 []
    position: jax.Array  # int32 [N], occurrences by key; N past the last
    group: jax.Array  # int32 [N], the key of each of these


class Find(Protocol):
    def __call__(self, index: Index, keys: Keys, valid: jax.Array) -> jax.Array:
        """The entry of each key [N], int32; -1 where it is absent or not valid (bool [N]). Keys may repeat."""
        ...


class Changed(NamedTuple):
    """What a touch overwrote: the entries, E where nothing was written, and their old values."""

    score_at: jax.Array  # int32 [N], as are all
    stamp_at: jax.Array
    scores: jax.Array
    stamps: jax.Array


class Touch(Protocol):
    def __call__(
        self, index: Index, keys: Keys, valid: jax.Array, step: jax.Array, *, counts: bool, repeats: bool
    ) -> tuple[Index, jax.Array, Changed]:
        """Find keys, and stamp found entries with the step (int32 []). counts: the score grows by 1; else it is the step.

        repeats: keys may repeat; each entry counts one touch.
        """
        ...


class Insert(Protocol):
    def __call__(self, index: Index, keys: Keys, settings: Settings, *, evict: bool) -> tuple[Index, Inserted]:
        """See pallas_kernels.bulk_insert, whose result every implementation gives bit for bit."""
        ...


class Dedup(Protocol):
    def __call__(self, keys: Keys, flags: jax.Array) -> Missing:
        """The unique keys among the flagged ones, ascending by (uid, signed id)."""
        ...


class GatherPool(Protocol):
    def __call__(
        self,
        table: jax.Array,
        rows: jax.Array,
        offsets: jax.Array,
        weights: jax.Array | None,
        *,
        combiner: str,
        tile_len: int | None,
    ) -> jax.Array:
        """backends.interface.Backend.pool of table [R, D] by rows int32 [N], row -1 reading as zeros; float32 out.

        offsets: int32 [B + 1]. What lies past offsets[-1] in rows and weights is padding, and padded bags are empty.
        """
        ...


class RowDot(Protocol):
    def __call__(self, values: jax.Array, rows: jax.Array, vectors: jax.Array, source: jax.Array) -> jax.Array:
        """values[rows[i]] · vectors[source[i]], float32 [N]; 0 where a number (int32) is negative."""
        ...


class SegmentSum(Protocol):
    def __call__(
        self,
        vectors: jax.Array,
        source: jax.Array,
        scale: jax.Array | None,
        offsets: jax.Array,
        count: jax.Array,
    ) -> jax.Array:
        """out[p] = Σ scale[j] · vectors[source[j]] over offsets[p] ≤ j < offsets[p + 1], float32 [P, D].

        In chunks of placement.SUM_CHUNK from offsets[p], each in order, then the chunks in order.
        vectors: float32 [V, D]. source: int32 [N] in [0, V), scale: float32 [N] or None; both padded past offsets[-1].
        offsets: int32 [P + 1]; segments from `count` (int32 []) on are empty, and their rows are never read: an
        implementation may use them as scratch. They are at least as many as the chunks past each segment's first.
        """
        ...


class Update(Protocol):
    def __call__(
        self, rule: UpdateRule, weights: jax.Array, slots: Slots, touched: Touched, hyper: jax.Array, factor: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """One optimizer step (backends.spec.UpdateRule) in place: weights [R, D] and slots float32 [R, width] are donated.

        slots: in the order of rule.slots. hyper: float32 [T, K]. factor: float32 [], multiplies the gradient.
        """
        ...


class Quantise(Protocol):
    def __call__(self, values: jax.Array, residual: jax.Array | None, *, dtype: str) -> Quantised:
        """See pallas_kernels.quantise, whose codes and scales every implementation gives bit for bit."""
        ...


class Dequantise(Protocol):
    def __call__(self, codes: jax.Array, scale: jax.Array, *, dtype: str, dim: int) -> jax.Array:
        """float32 [P, D] of what Quantise gave; D = dim."""
        ...


class PackIds(Protocol):
    def __call__(self, hi: jax.Array, lo: jax.Array, count: jax.Array) -> Packed:
        """See pallas_kernels.pack_ids."""
        ...


class UnpackIds(Protocol):
    def __call__(self, packed: Packed, *, size: int) -> tuple[jax.Array, jax.Array]:
        """(hi, lo) uint32 [size]."""
        ...


class SquaredNorms(Protocol):
    def __call__(self, values: jax.Array) -> jax.Array:
        """float32 [P] of values [P, D], bit for bit as pallas_kernels.select_rows.squared_norm adds."""
        ...


@dataclass(frozen=True)
class Loops:
    """Hashable, for it is a static argument of every program."""

    find: Find
    touch: Touch
    insert: Insert
    dedup: Dedup
    gather_pool: GatherPool
    row_dot: RowDot
    segment_sum: SegmentSum
    update: Update
    quantise: Quantise
    dequantise: Dequantise
    pack_ids: PackIds
    unpack_ids: UnpackIds
    squared_norms: SquaredNorms
