"""The numba backend's stages, as backends.interface names them: arrays in, loops, tensors out."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.numba_backend import codec as codec_
from recis_core.backends.numba_backend import embed as embed_
from recis_core.backends.numba_backend import export as export_
from recis_core.backends.numba_backend import gather as gather_
from recis_core.backends.numba_backend import gradient as gradient_
from recis_core.backends.numba_backend import id_packing
from recis_core.backends.numba_backend import lookup as lookup_
from recis_core.backends.numba_backend import partition as partition_
from recis_core.backends.numba_backend import pool as pool_
from recis_core.backends.numba_backend import pool_grad as pool_grad_
from recis_core.backends.numba_backend import select_rows as select_rows_
from recis_core.backends.numba_backend import state as state_
from recis_core.backends.numba_backend import update as update_
from recis_core.backends.numba_backend import write as write_
from recis_core.backends.numba_backend.embed import Saved
from recis_core.backends.numba_backend.gradient import KeyedGradient
from recis_core.backends.numba_backend.state import TableState
from recis_core.backends.records import EncodedRows, Evicted, LookupCall, Marks, Partition, RowNoise, Snapshot
from recis_core.backends.row_checks import check_rows
from recis_core.backends.spec import Clock, Counters, LookupMode, RowCodec, SlotSpec, TableSpec, UpdateRule
from recis_core.backends.whole import settle, whole, write_all


def _numpy(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


class NumbaBackend:
    """Every stage in compiled loops over host memory, in place.

    One table's calls must not overlap; different tables may be used from different threads.
    The thread count is numba's (NUMBA_NUM_THREADS, numba.set_num_threads); no result depends on it.
    """

    name = "numba"

    def create(self, spec: TableSpec) -> TableState:
        return state_.create_state(spec)

    def add_slots(self, state: TableState, slots: tuple[SlotSpec, ...]) -> TableState:
        settle(state)
        state_.add_slots(state, slots)
        return state

    def partition(self, state: TableState, ids: Tensor, tables: Tensor) -> Partition:
        return partition_.partition(state, ids, tables)

    def lookup(
        self, state: TableState, ids: Tensor, tables: Tensor, *, mode: LookupMode, clock: Clock
    ) -> tuple[TableState, Tensor, Evicted | None]:
        keys = _numpy(ids, tables)
        with whole(state) as undo:
            rows, evicted = lookup_.lookup(state, undo, *keys, mode=mode, clock=clock, incoming=len(ids))
        return state, torch.from_numpy(rows), evicted

    def gather(self, state: TableState, rows: Tensor, ids: Tensor, tables: Tensor, *, unknown: str = "zeros") -> Tensor:
        settle(state)
        numbers, *keys = _numpy(rows, ids, tables)
        state_.check_numbers(numbers, state.weights)
        return torch.from_numpy(gather_.gather(state, numbers, *keys, unknown))

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
        return pool_.pool(rows, inverse, offsets, weights, combiner=combiner, tile_len=tile_len)

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
        return pool_grad_.pool_grad(
            grad, rows, inverse, offsets, weights,
            combiner=combiner, tile_len=tile_len, weights_need_grad=weights_need_grad,
        )  # fmt: skip

    def embed(
        self,
        state: TableState,
        call: LookupCall,
        *,
        mode: LookupMode,
        clock: Clock,
        weights_need_grad: tuple[bool, ...],
    ) -> tuple[TableState, list[Tensor], Saved, Evicted | None]:
        return state, *embed_.embed(state, call, mode, clock, weights_need_grad)

    def embed_grad(self, saved: Saved, grads: list[Tensor | None]) -> tuple[KeyedGradient | None, list[Tensor | None]]:
        return embed_.embed_grad(saved, grads)

    def gradient(
        self,
        state: TableState,
        ids: Tensor,
        tables: Tensor,
        rows: Tensor,
        values: Tensor,
        counts: Tensor | None = None,
    ) -> KeyedGradient:
        counts = torch.ones_like(tables) if counts is None else counts
        return KeyedGradient(*_numpy(ids, tables, rows, values.float(), counts))

    def combine(self, gradients: list[KeyedGradient], *, mean: bool = False) -> KeyedGradient:
        return gradient_.combine(gradients, mean)

    def read_gradient(self, gradient: KeyedGradient) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        g = gradient
        return torch.from_numpy(g.ids), torch.from_numpy(g.tables), torch.from_numpy(g.rows), torch.from_numpy(g.values)

    def without(self, gradient: KeyedGradient, gone: Tensor) -> KeyedGradient:
        return gradient_.without(gradient, gone.numpy())

    def measure(self, gradient: KeyedGradient) -> tuple[Tensor, Tensor]:
        return gradient_.measure(gradient)

    def update(
        self,
        state: TableState,
        gradient: KeyedGradient,
        rule: UpdateRule,
        *,
        hyper: np.ndarray,
        factor: float,
        t: tuple[int, ...],
    ) -> TableState:
        settle(state)
        update_.update(state, gradient, rule, hyper, factor, t)
        return state

    def encode(
        self,
        values: Tensor,
        residual: Tensor | None = None,
        *,
        codec: RowCodec,
        noise: RowNoise | None = None,
    ) -> EncodedRows:
        return codec_.encode(values, residual, codec, noise)

    def decode(self, codes: Tensor, *, codec: RowCodec, dim: int, tail: Tensor | None = None) -> Tensor:
        return codec_.decode(codes, codec, dim, tail)

    def pack_ids(self, ids: Tensor) -> Tensor:
        return id_packing.pack_ids(ids)

    def unpack_ids(self, packed: Tensor, count: int) -> Tensor:
        return id_packing.unpack_ids(packed, count)

    def select_rows(self, values: Tensor, k: int) -> Tensor:
        return select_rows_.select_rows(values, k)

    def renumber(self, gradient: KeyedGradient, rows: Tensor) -> KeyedGradient:
        return dataclasses.replace(gradient, rows=_numpy(rows)[0])

    def read_rows(self, state: TableState, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        settle(state)
        (at,) = _numpy(rows)
        state_.check_numbers(at, state.weights, *state.slots.values())
        slots = {name: torch.from_numpy(gather_.gather_rows(array, at)) for name, array in state.slots.items()}
        return state_.as_weights(gather_.copied_rows(state.weights, at)), slots

    def write_rows(self, state: TableState, rows: Tensor, weights: Tensor, slots: dict[str, Tensor]) -> TableState:
        check_rows(state.spec, state.slot_specs, rows, weights, slots)
        settle(state)
        (at,) = _numpy(rows)
        state_.check_numbers(at, state.weights, *state.slots.values())
        values = [(state.weights, state_.as_stored(weights))]
        values += [(array, *_numpy(slots[name])) for name, array in state.slots.items()]
        write_all(state, [(write_.write_rows, (array, at, value)) for array, value in values])
        return state

    def read_slot(self, state: TableState, name: str, rows: Tensor) -> Tensor:
        settle(state)
        (at,) = _numpy(rows)
        state_.check_numbers(at, state.slots[name])
        return torch.from_numpy(gather_.gather_rows(state.slots[name], at))

    def write_slot(self, state: TableState, name: str, rows: Tensor, values: Tensor) -> TableState:
        settle(state)
        at, given = _numpy(rows, values.float())
        state_.check_numbers(at, state.slots[name])
        write_.write_rows(state.slots[name], at, given)
        return state

    def erase(self, state: TableState, ids: Tensor, tables: Tensor) -> TableState:
        export_.erase(state, *_numpy(ids, tables))
        return state

    def marks(self, state: TableState) -> Marks:
        settle(state)
        return export_.marks(state)

    def keys_from(self, state: TableState, start: int, most: int) -> tuple[Tensor, Tensor, Tensor, int]:
        settle(state)
        return export_.keys_from(state, start, most)

    def rows_by_table(self, state: TableState) -> tuple[int, ...]:
        settle(state)
        return tuple(state.by_table.tolist())

    def export(self, state: TableState) -> Snapshot:
        settle(state)
        return export_.export(state)

    def restore(self, state: TableState, snapshot: Snapshot) -> TableState:
        export_.restore(state, snapshot)
        return state

    def counters(self, state: TableState) -> Counters:
        settle(state)
        counters = copy.copy(state.counters)
        counters.rows, counters.buckets, counters.stashed = state.used, state.index.buckets, state.index.stashed
        return counters

    def programs(self) -> int:
        return 0
