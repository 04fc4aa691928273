"""Arguments and results of a backend's stages that are more than one tensor.

Sizes: N ids, U unique ids, B bags, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Request:
    """Bags that are pooled alike: one contiguous run of a call's ids.

    offsets: int64 or int32 [B + 1] from 0 to the run's length. weights: float32 of that length, or None.
    ids:      a b | c | | d e f      offsets: 0 2 3 3 6      4 bags, the third empty
    """

    combiner: str
    offsets: Tensor
    weights: Tensor | None = None
    tile_len: int | None = None


@dataclass(frozen=True)
class LookupCall:
    """All ids that one forward looks up in one physical table.

    ids: int64 [N], the features' ids one after another.
    lengths: ids of each feature, Σ = N.
    ordinals: each feature's logical table, an index into TableSpec.uids.
    requests: their runs cover ids in order; a run ends where a feature ends.
    """

    ids: Tensor
    lengths: tuple[int, ...]
    ordinals: tuple[int, ...]
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Partition:
    """Unique keys of a batch, in any order; key u stands for every i with inverse[i] == u."""

    ids: Tensor  # int64 [U]
    tables: Tensor  # int32 [U], ordinals
    inverse: Tensor  # int32 [N]
    counts: Tensor  # int32 [U]
    slices: Tensor  # int32 [U], the key's 16-bit slice of the hash


@dataclass
class Evicted:
    """Keys evicted by a lookup, with their weights and slots; compacted, each chunk in ascending (uid, id) order."""

    ids: Tensor  # int64 [E]
    tables: Tensor  # int32 [E], ordinals
    rows: Tensor  # int32 [E], row numbers, which now belong to the new ids
    weights: Tensor  # [E, D]
    slots: dict[str, Tensor] = field(default_factory=dict)  # float32 [E, width]


@dataclass
class Snapshot:
    """A table's content on the CPU, ascending by (uid, signed id).

    `slot_numbers` and `row_numbers` are the placement: slot = bucket * W + way, or -1 - k for
    the k-th stash entry. `free_rows` is the stack of erased rows, its top last; `next_row` the
    first row never used. None on import means: place the ids anew, as if just inserted.
    """

    ids: Tensor  # int64 [n]
    tables: Tensor  # int32 [n], ordinals
    weights: Tensor  # [n, D], storage dtype
    slots: dict[str, Tensor] = field(default_factory=dict)  # float32 [n, width]
    slot_numbers: Tensor | None = None  # int64 [n]
    row_numbers: Tensor | None = None  # int32 [n]
    scores: Tensor | None = None  # int32 [n]
    stamps: Tensor | None = None  # int32 [n]
    free_rows: Tensor | None = None  # int32 [f]
    next_row: int = 0
    buckets: int = 0


@dataclass(frozen=True)
class Marks:
    """A table's keys with what eviction orders them by, without weights and slots. On the CPU, ascending by (uid, signed id)."""

    ids: Tensor  # int64 [n]
    tables: Tensor  # int32 [n], ordinals
    rows: Tensor  # int32 [n], row numbers
    scores: Tensor  # int32 [n], as TableSpec.score says
    stamps: Tensor  # int32 [n], the step that last touched each


@dataclass(frozen=True)
class RowNoise:
    """Source of a stochastic encode's rounding noise: initial_values.wire_noise, by (seed, uid, id, t, column) alone.

    seed: 64 bits. uids: int64 [U], uint32 numbers. ids: int64 [U]. t: 0 ≤ t < 2³¹, another for each exchange.
    """

    seed: int
    uids: Tensor
    ids: Tensor
    t: int


@dataclass(frozen=True)
class EncodedRows:
    """Encoded [U, D] rows. A row's bytes are contiguous, so that index_select picks rows.

    codes:         row 0 │ row 1 │ row 2 (zeros) │ …          exact: 2         exact_rows: row 2 as it is
    tail:          row 0's escapes, row 1's, …                tail_lengths: 3 0 0 …
    """

    codes: Tensor  # uint8 [U, row_bytes]; zeros for an exact row
    left: Tensor | None  # float32 [U, D], rounding errors: the next residual; None without a residual
    exact: Tensor  # int64 [E] ascending, rows that hold NaN or inf
    exact_rows: Tensor  # float32 [E, D], x bit for bit, to send beside the codes
    clamped: int  # finite values past the largest number of bf16 or fp16
    tail: Tensor | None = None  # uint8 [T], lossless only
    tail_lengths: Tensor | None = None  # int32 [U], each row's part of the tail; lossless only

    @property
    def residual(self) -> Tensor:
        """`left`, where a residual came in."""
        if self.left is None:
            raise ValueError("these rows were encoded without a residual, so none is left; pass one, zeros at first.")
        return self.left
