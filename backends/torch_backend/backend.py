"""The torch backend's stages, as backends.interface names them: those that are one function of a module, then the others."""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends import table_counts
from recis_core.backends.errors import BackendUnavailable
from recis_core.backends.records import Evicted
from recis_core.backends.row_checks import check_rows
from recis_core.backends.rows_now import NO_ROWS
from recis_core.backends.spec import Clock, LookupMode, SlotSpec, TableSpec
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
from recis_core.backends.torch_backend.state import TableState, changing, overwrite
from recis_core.backends.whole import settle


class TorchBackend:
    """Every stage in plain PyTorch."""

    name = "torch"

    partition = staticmethod(partition_.partition)
    embed = staticmethod(embed_.embed)
    embed_grad = staticmethod(embed_.embed_grad)
    pool = staticmethod(pool_.pool)
    pool_grad = staticmethod(pool_.pool_grad)

    gradient = staticmethod(gradient_.from_keys)
    combine = staticmethod(gradient_.combine)
    read_gradient = staticmethod(gradient_.read)
    renumber = staticmethod(gradient_.renumbered)
    without = staticmethod(gradient_.without)
    measure = staticmethod(gradient_.measure)
    update = staticmethod(update_.update)

    encode = staticmethod(codec_.encode)
    decode = staticmethod(codec_.decode)
    pack_ids = staticmethod(id_packing.pack_ids)
    unpack_ids = staticmethod(id_packing.unpack_ids)
    select_rows = staticmethod(select_rows_.select_rows)

    erase = staticmethod(export_.erase)
    marks = staticmethod(export_.marks)
    keys_from = staticmethod(export_.keys_from)
    export = staticmethod(export_.export)
    export_parts = staticmethod(export_.export_parts)
    export_later = staticmethod(export_.export_later)
    restore = staticmethod(export_.restore)
    rows_by_table = staticmethod(table_counts.rows_by_table)
    counters = staticmethod(table_counts.counters)

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

    def lookup(
        self, state: TableState, ids: Tensor, tables: Tensor, *, mode: LookupMode, clock: Clock
    ) -> tuple[TableState, Tensor, Evicted | None]:
        with changing(state, NO_ROWS) as undo:
            uids = state.uids(tables)
            rows, evicted = lookup_.lookup(state, undo, ids, uids, mode=mode, clock=clock, incoming=len(ids))
        return state, rows, evicted

    def gather(self, state: TableState, rows: Tensor, ids: Tensor, tables: Tensor, *, unknown: str = "zeros") -> Tensor:
        settle(state)
        return gather_.gather(state, rows, ids, tables, unknown)

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

    def programs(self) -> int:
        return 0
