"""One table of a serving process: a backend's own table, written by version and read by id.

Sizes: N ids, U unique ids, D dim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recis_core.backends import Clock, LookupCall, LookupMode, Request, Snapshot, TableSpec
from recis_core.backends.interface import Backend
from recis_core.table.plain_storage import PlainStorage
from recis_core.table.uid import uid
from recis_core.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from recis_core.options.embedding_option import EmbeddingOption


ROWS_AT_ONCE = 1 << 14


class ServedTable:
    """Rows float32 [·, dim] on the CPU; `option` says what an unknown id reads as, zeros without it.

    rows: how many to make room for.
    """

    def __init__(self, name: str, dim: int, backend: Backend, option: EmbeddingOption | None, rows: int) -> None:
        self.dim = dim
        self._mode = LookupMode(insert=False, unknown=option.unknown if option else "zeros", touch=False)
        start = {"seed": option.seed, "distribution": option.init.distribution(dim)} if option else {}
        spec = TableSpec(dim=dim, uids=(uid(name),), rows=max(1, rows), **start)  # type: ignore[arg-type]
        with uninterrupted():
            self._storage = PlainStorage(backend, spec)

    def __len__(self) -> int:
        with uninterrupted():
            return self._storage.counters().rows

    def write(self, ids: Tensor, rows: Tensor) -> None:
        """Rows of distinct ids, new or known. A signal waits: numba makes a SystemError of it."""
        if not len(ids):
            return
        with uninterrupted():
            self._storage.restore(Snapshot(ids, _zeros(ids), rows))

    def erase(self, ids: Tensor) -> None:
        """Forget distinct ids."""
        for some in ids.split(ROWS_AT_ONCE):
            if len(some):
                with uninterrupted():
                    self._storage.erase(some, _zeros(some))

    def read(self, ids: Tensor) -> Tensor:
        """Float32 [N, D]."""
        whole = Request("none", torch.tensor([0, len(ids)]))
        call = LookupCall(ids, (len(ids),), (0,), (whole,))
        [rows], _, _ = self._storage.embed(call, mode=self._mode, clock=Clock(), weights_need_grad=(False,))
        return rows

    def find(self, ids: Tensor) -> Tensor:
        """Row numbers int32 [U] of distinct ids, -1 for unknown. Some at a time: torch compares all ways of all ids."""
        return torch.cat([self._find(some) for some in ids.split(ROWS_AT_ONCE)])

    def _find(self, ids: Tensor) -> Tensor:
        with uninterrupted():
            return self._storage.lookup(ids, _zeros(ids), mode=self._mode, clock=Clock())[0]

    def gather(self, numbers: Tensor, ids: Tensor) -> Tensor:
        """Float32 [U, D] of row numbers, and of -1 what the id reads as where it is unknown."""
        return self._storage.gather(numbers, ids, _zeros(ids), unknown=self._mode.unknown)

    def ids(self) -> Tensor:
        """All ids, ascending."""
        return self._storage.marks().ids


def _zeros(ids: Tensor) -> Tensor:
    return torch.zeros(len(ids), dtype=torch.int32)
