"""The backend contract: one table's stages, coarse because a crossing costs tens of microseconds.

State is opaque: a backend creates it, and each stage that changes it takes it and returns
it. What goes in and out beside it are torch tensors on the table's device.

Sizes: N ids, U unique ids, B bags, R rows, D dim, F features, T logical tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from backends.spec import Clock, Counters, LookupMode, SlotSpec, TableSpec, UpdateRule

State = Any  # a backend's own; never looked into from outside
Saved = Any  # what a forward keeps for its backward: ids and rows' numbers, never the table
Gradient = Any  # a gradient by unique key, held until the optimizer step


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
    """All ids one forward asks of one physical table.

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
    """Unique keys of a batch, in an order of the backend's own; key u stands for every i with inverse[i] == u."""

    ids: Tensor  # int64 [U]
    tables: Tensor  # int32 [U], ordinals
    inverse: Tensor  # int32 [N]
    counts: Tensor  # int32 [U]
    slices: Tensor  # int32 [U], the key's 16-bit slice of the hash


@dataclass
class Evicted:
    """Keys that lost their row in a lookup, with what the row held; compacted, in ascending (uid, id) order a chunk."""

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


class Backend(Protocol):
    """One implementation of every stage. Asked for by name, it runs or raises BackendUnavailable."""

    name: str

    def create(self, spec: TableSpec) -> State:
        """An empty table.

        Raises:
          BackendUnavailable: the table's device cannot be served by this backend.
        """
        ...

    def add_slots(self, state: State, slots: tuple[SlotSpec, ...]) -> State:
        """Give every row, present and to come, these optimizer slots. One that exists, equal, is left.

        Raises:
          ValueError: a slot of that name exists with another width or initial value.
        """
        ...

    def partition(self, state: State, ids: Tensor, tables: Tensor) -> Partition:
        """Dedup keys (tables[i], ids[i]); int64 [N] and int32 [N] ordinals. N may be 0."""
        ...

    def lookup(
        self, state: State, ids: Tensor, tables: Tensor, *, mode: LookupMode, clock: Clock
    ) -> tuple[State, Tensor, Evicted | None]:
        """Row numbers int32 [U] of unique keys, found or inserted as backends.placement says; -1 for unknown.

        New rows hold their initial values and slots when this returns. With mode.insert a table
        that grows does so first, where `placement.grown_buckets(buckets, used, U)` says so.
        Evicted is None unless the spec evicts.

        Raises:
          TableFull: ids are left without a row. The table is as before.
        """
        ...

    def gather(self, state: State, rows: Tensor, ids: Tensor, tables: Tensor, *, unknown: str = "zeros") -> Tensor:
        """Rows by number, float32 [U, D]; row -1 reads as zeros or as its key's initial value."""
        ...

    def pool(
        self,
        rows: Tensor,
        inverse: Tensor,
        offsets: Tensor,
        weights: Tensor | None = None,
        *,
        combiner: str = "sum",
        tile_len: int | None = None,
    ) -> Tensor:
        """Pool the rows named by `inverse` into one vector per bag.

        out[b] = Σ weights[i] · rows[inverse[i]]   over offsets[b] ≤ i < offsets[b + 1]
        "mean" divides by Σ weights, "sqrtn" by sqrt(Σ weights²); a bag whose divisor is 0 gives zeros.
        "tile" lays the first tile_len weighted rows side by side, [B, tile_len·D], zeros behind.
        "none" gives the weighted rows themselves, [N, D].

        Args:
          rows: [U, D] float32, bfloat16 or float16. inverse: int32 [N] in [0, U).
          offsets: [B + 1]. weights: float32 [N] or None for ones.

        Returns:
          in the dtype of rows, accumulated in float32, summed in the order of `inverse`.

        As torch.nn.functional.embedding_bag. DLRM, Naumov et al. 2019, arXiv:1906.00091, §3.
        """
        ...

    def pool_grad(
        self,
        grad: Tensor,
        rows: Tensor,
        inverse: Tensor,
        offsets: Tensor,
        weights: Tensor | None = None,
        *,
        combiner: str = "sum",
        tile_len: int | None = None,
        weights_need_grad: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The gradient of `pool` to rows, float32 [U, D], and to weights, float32 [N] or None.

        Occurrences of a row are summed in order in chunks of placement.SUM_CHUNK, then the
        chunks in order: bit-identical on every run. An empty bag and a zero divisor give zeros.
        """
        ...

    def embed(
        self, state: State, call: LookupCall, *, mode: LookupMode, clock: Clock, weights_need_grad: tuple[bool, ...]
    ) -> tuple[State, list[Tensor], Saved, Evicted | None]:
        """partition, lookup, gather and pool of a whole call, in as few programs as the backend can.

        With mode.insert a table that grows does so first, where
        `placement.grown_buckets(buckets, used, N)` says so, N all ids of the call, repeated ones
        counted. `weights_need_grad` has one entry a request.

        Returns:
          the state; one float32 output a request, [B, D] (tile: [B, tile_len·D], none: [n, D]);
          what `embed_grad` needs; and what was evicted, if the spec evicts.

        Raises:
          TableFull: as `lookup`; a JAX backend may raise it one call later.
        """
        ...

    def embed_grad(self, saved: Saved, grads: list[Tensor | None]) -> tuple[Gradient | None, list[Tensor | None]]:
        """Backward of `embed`: the gradient by unique key, and one for each request's weights, as asked.

        grads: one a request, float32, bfloat16 or float16; None is zeros. Unknown ids get none.
        Returns Gradient None where nothing was looked up under insert=True.
        """
        ...

    def gradient(
        self,
        state: State,
        ids: Tensor,
        tables: Tensor,
        rows: Tensor,
        values: Tensor,
        counts: Tensor | None = None,
    ) -> Gradient:
        """A Gradient from unique keys, their row numbers, and float32 [U, D] values.

        counts: int32 [U], occurrences each stands for; None is one each. A row number of -1 is
        ignored by `update`; `combine` may drop it.
        """
        ...

    def combine(self, gradients: list[Gradient], *, mean: bool = False) -> Gradient:
        """Sum gradients of one table by row, in the order given. mean=True divides by each id's occurrences."""
        ...

    def read_gradient(self, gradient: Gradient) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(ids int64 [U], ordinals int32 [U], row numbers int32 [U], values float32 [U, D]) of a Gradient."""
        ...

    def measure(self, gradient: Gradient) -> tuple[Tensor, Tensor]:
        """(Σ values² as a 0-d float64 tensor, whether all values are finite as a 0-d bool tensor)."""
        ...

    def update(
        self,
        state: State,
        gradient: Gradient,
        rule: UpdateRule,
        *,
        hyper: np.ndarray,
        factor: float,
        t: tuple[int, ...],
    ) -> State:
        """One optimizer step on the gradient's rows, in place: weights and slots.

        hyper: float32 [T, K], a line per logical table (UpdateRule). factor: multiplies the gradient.
        t: applied steps of each logical table, this one counted; seeds bfloat16 rounding.
        Rows without a gradient are left alone.
        """
        ...

    def read_slot(self, state: State, name: str, rows: Tensor) -> Tensor:
        """One slot of rows by number, float32 [U, width]; rows int32 [U], -1 reads as zeros.

        Raises:
          KeyError: the table has no such slot.
        """
        ...

    def write_slot(self, state: State, name: str, rows: Tensor, values: Tensor) -> State:
        """Overwrite one slot of distinct rows by float32 [U, width]; a row number of -1 is left out.

        Raises:
          KeyError: the table has no such slot.
        """
        ...

    def erase(self, state: State, ids: Tensor, tables: Tensor) -> State:
        """Forget unique keys; their rows go on the free stack in ascending order. Unknown keys are ignored."""
        ...

    def export(self, state: State) -> Snapshot:
        """All of the table, placement included."""
        ...

    def restore(self, state: State, snapshot: Snapshot) -> State:
        """Write the snapshot's ids with weights and slots; slots it lacks get their initial value.

        Into an empty table with placement given and equal buckets the placement is kept, so that
        training resumes bit for bit. Otherwise ids are found or inserted in key order.

        Raises:
          ValueError: dim, dtype or a slot's width differs.
        """
        ...

    def counters(self, state: State) -> Counters:
        """What happened so far. Waits for the device."""
        ...

    def programs(self) -> int:
        """Compilations of this backend so far in this process; 0 where nothing is compiled by shape."""
        ...
