"""The rows of a physical table, in whichever tier.

    AdmittingStorage    an AdmitHook decides which new ids get a row   ─┐ each over one of those below
    TieredStorage       rows leave the device, and come back            │
    PlainStorage        a backend bound to its state                   <┘

Sizes: N ids, U unique keys, n keys, D dim, T logical tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from recis_core.backends import Backend, Clock, Counters, LookupCall, LookupMode, SlotSpec, Snapshot, UpdateRule
from recis_core.backends.records import Evicted, Marks, Partition

if TYPE_CHECKING:
    from recis_core.table.admission.gate import Gate
    from recis_core.table.content import Content
    from recis_core.table.tiers.tiered_state import TieredState

Gradient = Any  # its type is known to the storage that made it


class Storage(Protocol):
    """The stages of Backend that read or change a table's rows, with the state bound.

    A stage that raises leaves the rows as they were.

    Attributes:
      backend: computes on the rows; call stages without a state, such as pool and encode, on it.
      gate: decides which new ids get a row; None: all do.
      tiers: the tiers that rows move between; None: all rows are on the device.
    """

    backend: Backend

    @property
    def gate(self) -> Gate | None: ...

    @property
    def tiers(self) -> TieredState | None: ...

    def steps(self) -> int:
        """Optimizer steps that the rows already have: those of a kept disk's last flush, else 0. Opens the disk."""
        ...

    def content(self, ordinals: set[int], slots: tuple[SlotSpec, ...], room: int = 0) -> Content:
        """Collects rows that will replace those of these logical tables. room: how many are expected."""
        ...

    def add_slots(self, slots: tuple[SlotSpec, ...]) -> None: ...

    def partition(self, ids: Tensor, tables: Tensor) -> Partition: ...

    def lookup(
        self, ids: Tensor, tables: Tensor, *, mode: LookupMode, clock: Clock, counts: Tensor | None = None
    ) -> tuple[Tensor, Evicted | None]:
        """counts: int32 [U], occurrences of each key; None: one each."""
        ...

    def gather(self, rows: Tensor, ids: Tensor, tables: Tensor, *, unknown: str = "zeros") -> Tensor: ...

    def embed(
        self, call: LookupCall, *, mode: LookupMode, clock: Clock, weights_need_grad: tuple[bool, ...]
    ) -> tuple[list[Tensor], Any, Evicted | None]: ...

    def embed_grad(self, saved: Any, grads: list[Tensor | None], /) -> tuple[Gradient | None, list[Tensor | None]]: ...

    def gradient(
        self, ids: Tensor, tables: Tensor, rows: Tensor, values: Tensor, counts: Tensor | None = None
    ) -> Gradient: ...

    def combine(self, gradients: list[Gradient], /, *, mean: bool = False) -> Gradient: ...

    def read_gradient(self, gradient: Gradient, /) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...

    def without(self, gradient: Gradient, gone: Tensor, /) -> Gradient: ...

    def measure(self, gradient: Gradient, /) -> tuple[Tensor, Tensor]: ...

    def update(
        self, gradient: Gradient, rule: UpdateRule, *, hyper: np.ndarray, factor: float, t: tuple[int, ...]
    ) -> None: ...

    def read_slot(self, name: str, rows: Tensor) -> Tensor: ...

    def write_slot(self, name: str, rows: Tensor, values: Tensor) -> None: ...

    def erase(self, ids: Tensor, tables: Tensor) -> None: ...

    def marks(self) -> Marks: ...

    def pieces(self, ordinal: int, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        """A logical table in storage order: ids int64 [n], and row numbers int32 [n], or rows [n, D] if numbers change; n ≤ most.

        Moves no row; rows must not move until it ends.
        """
        ...

    def layout(self) -> tuple[int, ...]:
        """A value that changes whenever rows may have moved."""
        ...

    def rows_by_table(self) -> tuple[int, ...]: ...

    def export(self) -> Snapshot: ...

    def snapshots(self, most: int) -> Iterator[Snapshot]:
        """All rows with slots and marks, each once, on the CPU, without placement, in parts of at most `most` rows.

        They are read where they are as the iterator goes on: rows must neither change nor move until it ends.
        """
        ...

    def snapshots_later(self) -> Iterator[Snapshot]:
        """All rows as they are at this call, as `snapshots` gives them; the iterator may go on later, on another thread.

        Raises:
          NotImplementedError: rows are in tiers.
        """
        ...

    def rows_of(self, ids: Tensor, tables: Tensor, *, marks: bool) -> Snapshot:
        """Rows and slots, and marks, of those of these unique keys that have a row; on the CPU. Counts no use."""
        ...

    def restore(self, snapshot: Snapshot) -> None: ...

    def counters(self) -> Counters: ...

    @property
    def state(self) -> Any:
        """What holds the rows: the backend's state, or the tiers'."""
        ...

    def stats(self) -> dict[str, int]:
        """Counts of the gate and the tiers, beside `counters`."""
        ...
