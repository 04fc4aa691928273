"""One table of a serving process: a backend's own table, written by version and read by id.

Sizes: N ids, D dim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from backends import Clock, LookupCall, LookupMode, Request, Snapshot, TableSpec
from backends.interface import Backend
from recis_core.table.uid import uid

if TYPE_CHECKING:
    from recis_core.nn.embedding_option import EmbeddingOption


class ServedTable:
    """Rows float32 [·, dim] on the CPU; `option` says what an unknown id reads as, zeros without it."""

    def __init__(self, name: str, dim: int, backend: Backend, option: EmbeddingOption | None) -> None:
        self.dim, self._backend = dim, backend
        self._mode = LookupMode(insert=False, unknown=option.unknown if option else "zeros", touch=False)
        start = {"seed": option.seed, "distribution": option.init.distribution(dim)} if option else {}
        self._state = backend.create(TableSpec(dim=dim, uids=(uid(name),), **start))  # type: ignore[arg-type]

    def write(self, ids: Tensor, rows: Tensor) -> None:
        """Rows of distinct ids, new or known."""
        if len(ids):
            self._state = self._backend.restore(self._state, Snapshot(ids, _zeros(ids), rows))

    def erase(self, ids: Tensor) -> None:
        if len(ids):
            self._state = self._backend.erase(self._state, ids, _zeros(ids))

    def read(self, ids: Tensor) -> Tensor:
        """Float32 [N, D]."""
        whole = Request("none", torch.tensor([0, len(ids)]))
        call = LookupCall(ids, (len(ids),), (0,), (whole,))
        self._state, [rows], _, _ = self._backend.embed(
            self._state, call, mode=self._mode, clock=Clock(), weights_need_grad=(False,)
        )
        return rows

    def ids(self) -> Tensor:
        """All ids, ascending."""
        return self._backend.export(self._state).ids


def _zeros(ids: Tensor) -> Tensor:
    return torch.zeros(len(ids), dtype=torch.int32)
