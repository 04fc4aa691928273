"""A backend around another: every stage is the inner one's until a subclass says otherwise.

The state of a wrapper holds the inner state in `.inner`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from recis_core.backends import Backend, Clock, Counters, LookupCall, LookupMode, SlotSpec, Snapshot, UpdateRule
from recis_core.backends.records import EncodedRows, Evicted, Marks, Partition, RowNoise
from recis_core.backends.spec import RowCodec


def plain(backend: Any) -> Backend:
    """The backend under all wrappers."""
    while isinstance(backend, WrappedBackend):
        backend = backend.inner
    inner: Backend = backend
    return inner


def inserts_unasked(backend: Any) -> bool:
    """Whether every unknown id gets a row in training, so that it may get it ahead of its call."""
    while isinstance(backend, WrappedBackend):
        if not backend.inserts_unasked:
            return False
        backend = backend.inner
    return True


class WrappedBackend:
    """Stages that a wrapper has no say in."""

    inserts_unasked = True
    takes_counts = False  # whether its lookup has an argument `counts`

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        return self.inner.name

    def add_slots(self, state: Any, slots: tuple[SlotSpec, ...]) -> Any:
        state.inner = self.inner.add_slots(state.inner, slots)
        return state

    def partition(self, state: Any, ids: Tensor, tables: Tensor) -> Partition:
        return self.inner.partition(state.inner, ids, tables)

    def lookup(
        self, state: Any, ids: Tensor, tables: Tensor, *, mode: LookupMode, clock: Clock
    ) -> tuple[Any, Tensor, Evicted | None]:
        state.inner, rows, evicted = self.inner.lookup(state.inner, ids, tables, mode=mode, clock=clock)
        return state, rows, evicted

    def gather(self, state: Any, rows: Tensor, ids: Tensor, tables: Tensor, *, unknown: str = "zeros") -> Tensor:
        return self.inner.gather(state.inner, rows, ids, tables, unknown=unknown)

    def pool(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.inner.pool(*args, **kwargs)

    def pool_grad(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        return self.inner.pool_grad(*args, **kwargs)

    def embed(
        self, state: Any, call: LookupCall, *, mode: LookupMode, clock: Clock, weights_need_grad: tuple[bool, ...]
    ) -> tuple[Any, list[Tensor], Any, Evicted | None]:
        state.inner, outputs, saved, evicted = self.inner.embed(
            state.inner, call, mode=mode, clock=clock, weights_need_grad=weights_need_grad
        )
        return state, outputs, saved, evicted

    def embed_grad(self, saved: Any, grads: list[Tensor | None]) -> tuple[Any, list[Tensor | None]]:
        return self.inner.embed_grad(saved, grads)

    def gradient(
        self, state: Any, ids: Tensor, tables: Tensor, rows: Tensor, values: Tensor, counts: Tensor | None = None
    ) -> Any:
        return self.inner.gradient(state.inner, ids, tables, rows, values, counts)

    def combine(self, gradients: list[Any], *, mean: bool = False) -> Any:
        return self.inner.combine(gradients, mean=mean)

    def read_gradient(self, gradient: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.inner.read_gradient(gradient)

    def renumber(self, gradient: Any, rows: Tensor) -> Any:
        return self.inner.renumber(gradient, rows)

    def without(self, gradient: Any, gone: Tensor) -> Any:
        return self.inner.without(gradient, gone)

    def measure(self, gradient: Any) -> tuple[Tensor, Tensor]:
        return self.inner.measure(gradient)

    def update(
        self, state: Any, gradient: Any, rule: UpdateRule, *, hyper: np.ndarray, factor: float, t: tuple[int, ...]
    ) -> Any:
        state.inner = self.inner.update(state.inner, gradient, rule, hyper=hyper, factor=factor, t=t)
        return state

    def encode(
        self, values: Tensor, residual: Tensor | None = None, *, codec: RowCodec, noise: RowNoise | None = None
    ) -> EncodedRows:
        return self.inner.encode(values, residual, codec=codec, noise=noise)

    def decode(self, codes: Tensor, *, codec: RowCodec, dim: int, tail: Tensor | None = None) -> Tensor:
        return self.inner.decode(codes, codec=codec, dim=dim, tail=tail)

    def pack_ids(self, ids: Tensor) -> Tensor:
        return self.inner.pack_ids(ids)

    def unpack_ids(self, packed: Tensor, count: int) -> Tensor:
        return self.inner.unpack_ids(packed, count)

    def select_rows(self, values: Tensor, k: int) -> Tensor:
        return self.inner.select_rows(values, k)

    def read_rows(self, state: Any, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.inner.read_rows(state.inner, rows)

    def write_rows(self, state: Any, rows: Tensor, weights: Tensor, slots: dict[str, Tensor]) -> Any:
        state.inner = self.inner.write_rows(state.inner, rows, weights, slots)
        return state

    def read_slot(self, state: Any, name: str, rows: Tensor) -> Tensor:
        return self.inner.read_slot(state.inner, name, rows)

    def write_slot(self, state: Any, name: str, rows: Tensor, values: Tensor) -> Any:
        state.inner = self.inner.write_slot(state.inner, name, rows, values)
        return state

    def erase(self, state: Any, ids: Tensor, tables: Tensor) -> Any:
        state.inner = self.inner.erase(state.inner, ids, tables)
        return state

    def marks(self, state: Any) -> Marks:
        return self.inner.marks(state.inner)

    def keys_from(self, state: Any, start: int, most: int) -> tuple[Tensor, Tensor, Tensor, int]:
        return self.inner.keys_from(state.inner, start, most)

    def rows_by_table(self, state: Any) -> tuple[int, ...]:
        return self.inner.rows_by_table(state.inner)

    def export(self, state: Any) -> Snapshot:
        return self.inner.export(state.inner)

    def restore(self, state: Any, snapshot: Snapshot) -> Any:
        state.inner = self.inner.restore(state.inner, snapshot)
        return state

    def counters(self, state: Any) -> Counters:
        return self.inner.counters(state.inner)

    def programs(self) -> int:
        return self.inner.programs()
