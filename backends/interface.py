"""The backend contract: one table's stages, coarse because a crossing costs tens of microseconds.

State is opaque: a backend creates a state, and each stage that changes a table takes its state and
returns it. All other arguments and results are torch tensors on the table's device.

Sizes: N ids, U unique ids, B bags, R rows, D dim, F features, T logical tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from recis_core.backends.records import EncodedRows, Evicted, LookupCall, Marks, Partition, RowNoise, Snapshot
from recis_core.backends.spec import Clock, Counters, LookupMode, RowCodec, SlotSpec, TableSpec, UpdateRule

State = Any  # a backend's own type; callers read none of its fields
Saved = Any  # what a forward keeps for its backward: ids and row numbers, never the table
Gradient = Any  # a gradient by unique key, held until the optimizer step


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
        """Give every row, present and future, these optimizer slots. An equal one that exists stays as it is.

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

        New rows hold their initial values and slots when this returns. With mode.insert a table that may grow
        does so first, to `placement.grown_buckets(buckets, used, U)`. Evicted is None unless the spec evicts.

        Raises:
          TableFull: new ids find no row or way. The table is as before.
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
        Both hold for weights of any magnitude, subnormal ones included: a bag's weights are first multiplied by a power
        of two, its lift, that brings the largest |weight| into [½, 1) (to 4 at most; subnormal ones are lifted by 2¹²⁵).
        Lifting is exact, so results that under- and overflow nowhere have the same bits without it. A lifted divisor
        below 2⁻¹²⁶ counts as 0. A weight that is NaN or inf makes all of its bag NaN.
        "tile" lays the first tile_len weighted rows side by side, [B, tile_len·D], zeros behind.
        "none" gives the weighted rows themselves, [N, D].

        Args:
          rows: [U, D] float32, bfloat16 or float16. inverse: int32 [N] in [0, U).
          offsets: [B + 1]. weights: float32 [N] or None for ones.

        Returns:
          in the dtype of rows, accumulated in float32, summed in the order of `inverse`. What overflows float32 in
          such a sum is inf, as it is in torch; what overflows the dtype of rows is inf there. Float32 subnormals may
          count as zeros, in rows, products and sums, for XLA and Triton flush them.

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

        With mode.insert a table that may grow does so first, to `placement.grown_buckets(buckets, used, N)`, where N
        counts all ids of the call, repeated ones too. `weights_need_grad` has one entry a request.

        Returns:
          the state; one float32 output a request, [B, D] (tile: [B, tile_len·D], none: [n, D]);
          what `embed_grad` needs; and what was evicted, if the spec evicts.

        Raises:
          TableFull: as `lookup`; a JAX backend may raise it one call later.
        """
        ...

    def embed_grad(self, saved: Saved, grads: list[Tensor | None]) -> tuple[Gradient | None, list[Tensor | None]]:
        """Backward of `embed`: the gradient by unique key, and one for the weights of each request that needs one.

        grads: one a request, float32, bfloat16 or float16; None is zeros. The Gradient leaves out unknown ids; it is None
        where mode.learns was False.
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

    def renumber(self, gradient: Gradient, rows: Tensor) -> Gradient:
        """The same gradient for other row numbers, int32 [U] in the order of read_gradient; -1 leaves a key out of `update`."""
        ...

    def without(self, gradient: Gradient, gone: Tensor) -> Gradient:
        """The same gradient without the keys whose line of `gone`, bool [U] in the order of read_gradient, is True."""
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

    def encode(
        self,
        values: Tensor,
        residual: Tensor | None = None,
        *,
        codec: RowCodec,
        noise: RowNoise | None = None,
    ) -> EncodedRows:
        """Rows x = values + residual as bytes; and `left`, the rounding errors (error feedback).

        On a CPU every backend gives the same bytes, and the same `left` bit for bit: no formula changes when a compiler
        fuses a product with a sum. Float32 subnormals of values, residual, x and `left` count as zeros of their sign,
        for some machines flush them; fp32 rows without a residual are copied.
        Not promised on a GPU: quotients of XLA and Triton may differ in the last bit, so a code next to a border may
        differ from the CPU's, and subnormals may stay. decode gives the same bits everywhere, and `left` is the
        error of the bytes that were given.

        Args:
          values: float32 [U, D], D ≥ 1. residual: the same, or None.
          codec: fp32  x.
            bf16, fp16  to nearest even. A finite |x| past the largest number becomes that number, and is counted.
            fp8, int8, int4  scale = max|x| · float32(1/largest), largest = 448, 127, 7, capped so that decoding
                never overflows; to nearest even of x / scale. A row with max|x| < 2⁻⁶³ (its squares underflow) is zeros.
            sign  scale = mean |x|, its last bit cleared, at most 2¹²⁶: |x|, 0 below 2⁻¹⁰⁰, times 2⁻ᵏ for the least
                2ᵏ ≥ D, zeros up to 2ᵏ columns, half added to half, times float32(2ᵏ/D). Zeros as above.
            lossless  bfloat16 as above in three parts: the row's largest exponent, 1 byte; sign and 7 mantissa bits
                of each column, D bytes; 3 bits a column, low bits first, of largest − exponent, where 7 says that
                the exponent is the tail's next byte. A zero has exponent 0, and so is an escape beside numbers ≥ 2⁻¹²⁰.
          noise: with codec.stochastic. Words w of the row's key, u = (w >> 8)·2⁻²⁴:
            int8, int4  ⌊x/scale + u⌋, clipped. sign  + where 2u − 1 < x/scale. A ratio below 2⁻¹⁰⁰ is 0.
            bf16, fp16, fp8  as many of w's high bits as are cut are added below the last bit kept: right for
                the format's subnormals, too. From 32 bits on 31 count, so that probabilities below 2⁻³¹ are 0.

        Raises:
          ValueError, TypeError: a shape, dtype or argument is wrong; noise is missing, or given without need.

        1-bit SGD, Seide et al. 2014; QSGD, Alistarh et al. 2017, arXiv:1610.02132; error feedback,
        Karimireddy et al. 2019, arXiv:1901.09847; signs with the mean as scale, Bernstein et al. 2018, arXiv:1802.04434.
        """
        ...

    def decode(self, codes: Tensor, *, codec: RowCodec, dim: int, tail: Tensor | None = None) -> Tensor:
        """float32 [U, D] of codes uint8 [U, row_bytes]; exact rows read as zeros and are put back by the caller.

        tail: uint8 [T], with lossless only: the tails of these rows, one after another.

        Raises:
          ValueError: codes are not row_bytes wide, or the tail's length differs from the number of escapes in the codes.
        """
        ...

    def pack_ids(self, ids: Tensor) -> Tensor:
        """int64 [N] ids, in any order, as bytes uint8: differences modulo 2⁶⁴ in frames of 128. N is not stored.

            F × 8 bytes   each frame's first id, little-endian
            F × 1 byte    its width b: bits of its largest difference, 0 … 64
            Σ 16·b bytes  its uint32 words, little-endian: difference i is number i // 4 of lane i % 4, low bits
                          first, b words a lane; lane 0's first word, lane 1's first, …

        F = ⌈N/128⌉. Sorted ids take few bits. As SIMD-BP128: Lemire & Boytsov 2015, arXiv:1209.2137.
        """
        ...

    def unpack_ids(self, packed: Tensor, count: int) -> Tensor:
        """The reverse of pack_ids: int64 [count].

        Raises:
          ValueError: a width is above 64, or the bytes are not exactly those of `count` ids. Checked before ids are
            read and before memory for them is taken.
        """
        ...

    def select_rows(self, values: Tensor, k: int) -> Tensor:
        """The k rows of largest L2 norm of values float32 [U, D]: int64 [k] positions, ascending.

        Equal norms: the lower position first. A row that holds NaN or inf, or whose squared norm
        overflows, counts as largest. Squares are exact to a last bit and added half to half, so that
        every backend sees the same norms; numbers below 2⁻⁶³ count as zeros.

        Raises:
          ValueError: k is not in 0 … U.

        Deep Gradient Compression, Lin et al. 2018, arXiv:1712.01887, row by row.
        """
        ...

    def read_rows(self, state: State, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(weights [U, D] as stored, every slot float32 [U, width]) of rows by number, int32 [U], none of them -1."""
        ...

    def write_rows(self, state: State, rows: Tensor, weights: Tensor, slots: dict[str, Tensor]) -> State:
        """Overwrite distinct rows, int32 [U], none of them -1: weights [U, D] as stored, and every slot.

        Raises:
          ValueError: a slot is missing, or a shape or dtype is wrong.
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
        """Remove unique keys; their rows go on the free stack in ascending order. Unknown keys are ignored."""
        ...

    def marks(self, state: State) -> Marks:
        """All keys with row numbers, scores and stamps; no weights and no slots leave the device. Waits for it."""
        ...

    def keys_from(self, state: State, start: int, most: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """Keys in the places [start, start + most) of the index, in the order of places: ways first, then the stash.

        Changes nothing, and reads no row. On the CPU: ids int64 [n], ordinals int32 [n], row numbers int32 [n], n ≤ most;
        and the `start` of the next call, -1 at the end.
        """
        ...

    def rows_by_table(self, state: State) -> tuple[int, ...]:
        """How many keys each logical table has, by ordinal. Reads no row; waits for the device."""
        ...

    def export(self, state: State) -> Snapshot:
        """All of the table, placement included."""
        ...

    def export_parts(self, state: State, most: int) -> Iterator[Snapshot]:
        """All of the table without placement, in key order, in parts of at most `most` rows; one empty part of no rows.

        Rows are read as the iterator goes on: no stage may change the table until it ends.
        """
        ...

    def export_later(self, state: State) -> Callable[[], Snapshot]:
        """The call that is returned gives export's result of now, whatever the table does since. Call it once, on any thread.

        Where rows lie in host memory, a thread copies the arrays as they are, and a stage that changes rows meanwhile
        notes them first (rows_now.py). Else they are copied here. The call puts them into key order; then the copy can go.
        """
        ...

    def restore(self, state: State, snapshot: Snapshot) -> State:
        """Write the snapshot's ids with weights and slots; slots it lacks get their initial value.

        An empty table takes over the snapshot's placement, if it has one and the buckets are equal or the table may grow:
        training then resumes bit for bit. Otherwise ids are found or inserted in key order. See docs/placement.md.

        Raises:
          ValueError: dim, dtype or a slot's width differs.
        """
        ...

    def counters(self, state: State) -> Counters:
        """Counts since the table was created. Waits for the device."""
        ...

    def programs(self) -> int:
        """Compilations by this backend in this process so far; 0 for a backend that compiles nothing by shape."""
        ...
