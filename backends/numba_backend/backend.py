"""The numba backend's stages, as backends.interface names them: those that are one function of a module, then the others."""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends import table_counts
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
from recis_core.backends.numba_backend.state import TableState, as_arrays
from recis_core.backends.records import Evicted
from recis_core.backends.row_checks import check_rows
from recis_core.backends.rows_now import NO_ROWS, keep
from recis_core.backends.spec import Clock, LookupMode, SlotSpec
from recis_core.backends.whole import settle, whole, write_all


class NumbaBackend:
    """Every stage in compiled loops over host memory, in place.

    One table's calls must not overlap; different tables may be used from different threads.
    The thread count is numba's (NUMBA_NUM_THREADS, numba.set_num_threads); no result depends on it.
    """

    name = "numba"

    create = staticmethod(state_.create_state)
    partition = staticmethod(partition_.partition)
    embed = staticmethod(embed_.embed)
    embed_grad = staticmethod(embed_.embed_grad)
    pool = staticmethod(pool_.pool)
    pool_grad = staticmethod(pool_grad_.pool_grad)

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

    marks = staticmethod(export_.marks)
    keys_from = staticmethod(export_.keys_from)
    export = staticmethod(export_.export)
    export_parts = staticmethod(export_.export_parts)
    export_later = staticmethod(export_.export_later)
    restore = staticmethod(export_.restore)
    rows_by_table = staticmethod(table_counts.rows_by_table)
    counters = staticmethod(table_counts.counters)

    def add_slots(self, state: TableState, slots: tuple[SlotSpec, ...]) -> TableState:
        settle(state)
        state_.add_slots(state, slots)
        return state

    def lookup(
        self, state: TableState, ids: Tensor, tables: Tensor, *, mode: LookupMode, clock: Clock
    ) -> tuple[TableState, Tensor, Evicted | None]:
        keys = as_arrays(ids, tables)
        with whole(state, NO_ROWS) as undo:
            rows, evicted = lookup_.lookup(state, undo, *keys, mode=mode, clock=clock, incoming=len(ids))
        return state, torch.from_numpy(rows), evicted

    def gather(self, state: TableState, rows: Tensor, ids: Tensor, tables: Tensor, *, unknown: str = "zeros") -> Tensor:
        settle(state)
        numbers, *keys = as_arrays(rows, ids, tables)
        state_.check_numbers(numbers, state.weights)
        return torch.from_numpy(gather_.gather(state, numbers, *keys, unknown))

    def read_rows(self, state: TableState, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        settle(state)
        (at,) = as_arrays(rows)
        state_.check_numbers(at, state.weights, *state.slots.values())
        slots = {name: torch.from_numpy(gather_.gather_rows(array, at)) for name, array in state.slots.items()}
        return state_.as_weights(gather_.copied_rows(state.weights, at)), slots

    def write_rows(self, state: TableState, rows: Tensor, weights: Tensor, slots: dict[str, Tensor]) -> TableState:
        check_rows(state.spec, state.slot_specs, rows, weights, slots)
        settle(state)
        (at,) = as_arrays(rows)
        state_.check_numbers(at, state.weights, *state.slots.values())
        values = [(state.weights, state_.as_stored(weights))]
        values += [(array, as_arrays(slots[name])[0]) for name, array in state.slots.items()]
        write_all(state, [(write_.write_rows, (array, at, value)) for array, value in values])
        return state

    def read_slot(self, state: TableState, name: str, rows: Tensor) -> Tensor:
        settle(state)
        (at,) = as_arrays(rows)
        state_.check_numbers(at, state.slots[name])
        return torch.from_numpy(gather_.gather_rows(state.slots[name], at))

    def write_slot(self, state: TableState, name: str, rows: Tensor, values: Tensor) -> TableState:
        settle(state)
        at, given = as_arrays(rows, values.float())
        state_.check_numbers(at, state.slots[name])
        if state.copying:
            keep(state.copying, at)
        write_.write_rows(state.slots[name], at, given)
        return state

    def erase(self, state: TableState, ids: Tensor, tables: Tensor) -> TableState:
        export_.erase(state, *as_arrays(ids, tables))
        return state

    def programs(self) -> int:
        return 0
