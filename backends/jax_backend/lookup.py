"""Look up unique keys, and erase keys.

Sizes: U unique keys, R rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.jax_backend.embed_calls import begun, manner_of, prepare
from recis_core.backends.jax_backend.inputs import Crossing
from recis_core.backends.jax_backend.ladder import rung
from recis_core.backends.jax_backend.programs import Programs
from recis_core.backends.jax_backend.reports import reported, settle
from recis_core.backends.jax_backend.state import TableState
from recis_core.backends.jax_backend.unfinished import whole
from recis_core.backends.records import Evicted
from recis_core.backends.spec import Clock, LookupMode
from recis_core.bridge.dlpack import to_torch


def lookup(
    programs: Programs, state: TableState, ids: Tensor, tables: Tensor, *, mode: LookupMode, clock: Clock
) -> tuple[TableState, Tensor, Evicted | None]:
    with whole(programs, state):
        prepare(programs, state, mode, len(ids))
        size, crossing = rung(len(ids)), Crossing()
        keys = crossing.words(ids, size), crossing.array(tables, size, torch.int32)
        numbers = np.array([len(ids), clock.step, clock.pinned_from], np.int32)
        manner = replace(manner_of(state.spec, mode), repeats=False)
        state.incoming = len(ids) if mode.insert else 0
        state.index, state.sought = programs.lookup(state.index, state.constants, *keys, numbers, manner=manner)
        crossing.done(state.sought.rows)
        sought, evicted = begun(programs, state, manner)
        return state, to_torch(sought.rows)[: len(ids)], evicted


def erase(programs: Programs, state: TableState, ids: Tensor, tables: Tensor) -> TableState:
    with whole(programs, state):
        settle(state, wait=False)
        size, crossing = rung(len(ids)), Crossing()
        keys = crossing.words(ids, size), crossing.array(tables, size, torch.int32)
        state.incoming = 0
        state.index, state.report = programs.erase(state.index, state.constants, *keys, np.int32(len(ids)))
        crossing.done(state.report)
        reported(state)
        return state
