"""The torch backend's stages, as backends.interface names them."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.errors import BackendUnavailable
from recis_core.backends.records import EncodedRows, Evicted, LookupCall, Marks, Partition, RowNoise, Snapshot
from recis_core.backends.row_checks import check_rows
from recis_core.backends.spec import Clock, Counters, LookupMode, RowCodec, SlotSpec, TableSpec, UpdateRule
from recis_core.backends.torch_backend import codec as codec_
from recis_core.backends.torch_backend import embed as embed_
from recis_core.backends.torch_backend import export as export_
from recis_core.backends.torch_backend import gather as gather_
from recis_core.backends.torch_backend import gradient as gradient_
from recis_core.backends.torch_backend import id_packing
from recis_core.backends.torch_backend import lookup as lookup_
from recis_core.backends.torch_backend import partition as partition_
from recis_core.backends.torch_backend import pool as pool_
from recis_core.backends.torch_backend import select_rows as select_rows_
from recis_core.backends.torch_backend import state as state_
from recis_core.backends.torch_backend import update as update_
from recis_core.backends.torch_backend.embed import Saved
from recis_core.backends.torch_backend.gradient import KeyedGradient
from recis_core.backends.torch_backend.state import TableState, changing, overwrite
from recis_core.backends.whole import settle


class TorchBackend:
    """Every stage in plain PyTorch."""

    name = "torch"

    def create(self, spec: TableSpec) -> TableState:
        if torch.device(spec.device).type == "cuda" and not torch.cuda.is_available():
            raise BackendUnavailable(
                f"device={spec.device!r} needs CUDA, which torch does not see here. Use device='cpu'."
            )
        with state_.outside_inference():
            return state_.create_state(spec)

    def add_slots(self, state: TableState, slots: tuple[SlotSpec, ...]) -> TableState:
        with changing(state):
            state_.add_slots(state, slots)
        return state

    def partition(self, state: TableState, ids: Tensor, tables: Tensor) -> Partition:
        return partition_.partition(state, ids, tables)

    def lookup(
        self, state: TableState, ids: Tensor, tables: Tensor, *, mode: LookupMode, clock: Clock
    ) -> tuple[TableState, Tensor, Evicted | None]:
        with changing(state) as undo:
            uids = state.uids(tables)
            rows, evicted = lookup_.lookup(state, undo, ids, uids, mode=mode, clock=clock, incoming=len(ids))
        return state, rows, evicted

    def gather(self, state: TableState, rows: Tensor, ids: Tensor, tables: Tensor, *, unknown: str = "zeros") -> Tensor:
        settle(state)
        return gather_.gather(state, rows, ids, tables, unknown)

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
        return pool_.pool_grad(
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
        with changing(state) as undo:
            done = embed_.embed(state, undo, call, mode, clock, weights_need_grad)
        return state, *done

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
        return KeyedGradient(ids, tables, rows, values.float(), torch.ones_like(tables) if counts is None else counts)

    def combine(self, gradients: list[KeyedGradient], *, mean: bool = False) -> KeyedGradient:
        return gradient_.combine(gradients, mean)

    def read_gradient(self, gradient: KeyedGradient) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return gradient.ids, gradient.tables, gradient.rows, gradient.values

    def without(self, gradient: KeyedGradient, gone: Tensor) -> KeyedGradient:
        return gradient_.without(gradient, gone)

    def measure(self, gradient: KeyedGradient) -> tuple[Tensor, Tensor]:
        return gradient.values.double().square().sum(), gradient.values.isfinite().all()

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
        with changing(state) as undo:
            update_.update(state, undo, gradient, rule, hyper, factor, t)
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
        return dataclasses.replace(gradient, rows=rows)

    def read_rows(self, state: TableState, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        settle(state)
        at = rows.long()
        return state.weights[at], {name: array[at] for name, array in state.slots.items()}

    def write_rows(self, state: TableState, rows: Tensor, weights: Tensor, slots: dict[str, Tensor]) -> TableState:
        check_rows(state.spec, state.slot_specs, rows, weights, slots)
        with changing(state) as undo:
            at = rows.long()
            overwrite(undo, state.weights, at, weights)
            for name, array in state.slots.items():
                overwrite(undo, array, at, slots[name])
        return state

    def read_slot(self, state: TableState, name: str, rows: Tensor) -> Tensor:
        settle(state)
        return torch.where((rows >= 0)[:, None], state.slots[name][rows.clamp(min=0).long()], 0)

    def write_slot(self, state: TableState, name: str, rows: Tensor, values: Tensor) -> TableState:
        with changing(state) as undo:
            known = rows >= 0
            overwrite(undo, state.slots[name], rows[known].long(), values[known].float())
        return state

    def erase(self, state: TableState, ids: Tensor, tables: Tensor) -> TableState:
        with changing(state) as undo:
            export_.erase(state, undo, ids, state.uids(tables))
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
        with changing(state) as undo:
            export_.restore(state, undo, snapshot)
        return state

    def counters(self, state: TableState) -> Counters:
        settle(state)
        counters = copy.copy(state.counters)
        counters.rows, counters.buckets, counters.stashed = state.used, state.index.buckets, state.index.stashed
        return counters

    def programs(self) -> int:
        return 0
