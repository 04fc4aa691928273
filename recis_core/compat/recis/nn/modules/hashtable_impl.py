"""What state dicts, optimizers and checkpoints of RecIS hold of a table: its storage with the named tables in it.

Sizes: n rows, D dim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recis_core.backends import Snapshot
from recis_core.compat.recis.nn.modules.children_info import ChildrenInfo
from recis_core.compat.recis.nn.modules.given_gradients import GivenGradients
from recis_core.compat.recis.nn.modules.ids import decoded, encoded
from recis_core.compat.recis.nn.modules.row_numbers import RowNumbers
from recis_core.compat.recis.nn.modules.slots import Slot, SlotGroup, spread
from recis_core.compat.recis.nn.modules.sparse_gradient import as_sparse
from recis_core.nn.hash_table import HashTable as OurTable
from recis_core.table.table import Table

if TYPE_CHECKING:
    from recis_core.compat.recis.nn.modules.hashtable_hook_impl import GlobalStepFilterHookImpl


class HashtableImpl:
    """As torch.classes.recis.HashtableImpl, over our tables.

    Args:
      tables: our tables by child, in the order of their numbers; all of one storage.
      shape: of a row.
      coalesced: whether ids hold their child's number; see ids.py.
    """

    hashtable_tag = True

    def __init__(self, tables: Mapping[str, OurTable], shape: Sequence[int], block_size: int, coalesced: bool) -> None:
        self.tables, self.shape, self.block_size = dict(tables), tuple(shape), block_size
        self.physical: Table = next(iter(self.tables.values())).physical
        self.rows = RowNumbers(self.physical)
        self.watched = False  # whether somebody looks at slots, so that those of deleted rows are remembered
        self.asked = False  # whether a training forward or accept_grad came since the last step
        self.step_filter: GlobalStepFilterHookImpl | None = None
        self._info = ChildrenInfo(list(tables), coalesced)
        self._given = GivenGradients()

    def children_info(self) -> ChildrenInfo:
        return self._info

    def __repr__(self) -> str:
        return f"HashtableImpl({', '.join(self.tables)})"

    # Ids

    def ids(self) -> Tensor:
        """All ids of this rank, encoded if the table is coalesced, on the table's device."""
        return self.ids_map()[0]

    def ids_map(self) -> tuple[Tensor, Tensor]:
        """(ids, row numbers), int64 [n] each."""
        marks, numbers = self.rows.now()
        return self._encoded(marks.ids, marks.tables).to(self.physical.device), numbers.to(self.physical.device)

    def _encoded(self, ids: Tensor, ordinals: Tensor) -> Tensor:
        if not self._info.is_coalesce():
            return ids
        found = ids.clone()
        for child, table in enumerate(self.tables.values()):
            mine = ordinals == table.ordinal
            found[mine] = encoded(ids[mine], child)
        return found

    def by_child(self, ids: Tensor) -> list[tuple[OurTable, Tensor, Tensor]]:
        """(table, its ids, their positions) of ids as `ids()` gives them.

        Raises:
          ValueError: an id's upper bits name no child.
        """
        first = next(iter(self.tables.values()))
        if not self._info.is_coalesce():
            return [(first, ids, torch.arange(len(ids), device=ids.device))]
        plain, child = decoded(ids)
        if len(ids) and int(child.max()) >= len(self.tables):
            raise ValueError(f"ids must hold the number of a child below {len(self.tables)}; got {int(child.max())}.")
        places = [(table, (child == n).nonzero()[:, 0]) for n, table in enumerate(self.tables.values())]
        return [(table, plain[at], at) for table, at in places if len(at)]

    # Rows

    def embedding_lookup(self, ids: Tensor, readonly: bool) -> tuple[Tensor, Tensor]:
        """(row numbers, rows) of unique ids; unknown ones are inserted, or have -1 and zeros if readonly."""
        rows = torch.zeros(len(ids), *self.shape, device=self.physical.device)
        for table, mine, at in self.by_child(ids.to(self.physical.device)):
            with torch.no_grad():
                found = table.lookup(mine)[0] if readonly else table.train()(mine)
            rows[at] = found.reshape(-1, *self.shape)
        return self.row_numbers(ids), rows

    def row_numbers(self, ids: Tensor) -> Tensor:
        """Row numbers int64 [n] of ids, -1 for unknown ones."""
        known, numbers = (x.cpu() for x in self.ids_map())
        order = known.argsort()
        known, numbers, ids = known[order], numbers[order], ids.cpu()
        at = torch.searchsorted(known, ids).clamp(max=max(len(known) - 1, 0))
        if not len(known):
            return torch.full_like(ids, -1)
        return torch.where(known[at] == ids, numbers[at], -1)

    def insert(self, ids: Tensor, embedding: Tensor) -> None:
        """Set the rows of unique ids, [n, …] in the table's dtype; their slots get initial values."""
        ids, embedding = ids.to(self.physical.device), embedding.reshape(len(ids), -1).to(self.physical.device)
        for table, mine, at in self.by_child(ids):
            table.insert(mine, embedding[at])

    def delete(self, ids: Tensor, index: Tensor | None = None, preserve_slot: str = "") -> None:
        """Delete rows by id. Collective with several ranks."""
        self.remember()
        for table, mine, _ in self.by_child(ids.to(self.physical.device)):
            table.erase(mine)

    def clear(self) -> None:
        """Delete all rows. Collective with several ranks."""
        self.physical.clear([table.ordinal for table in self.tables.values()])
        self.rows, self._given = RowNumbers(self.physical), GivenGradients()

    # Slots

    def slot_group(self) -> SlotGroup:
        self.watched = True
        size, write = self.block_size, self._write
        slots = [Slot("embedding", size, self._flat("embedding"), self._embedding, partial(write, "embedding"))]
        if self.step_filter is not None:
            slots.append(Slot(self.step_filter.slot_name, size, 1, self._steps, self._write_steps))
        for ours, theirs in self.optimizer_slots().items():
            slots.append(Slot(theirs, size, self._flat(ours), partial(self._slot, ours), partial(write, ours)))
        return SlotGroup(slots)

    def get_slot(self, name: str) -> Slot:
        return self.slot_group().slot_by_name(name)

    def optimizer_slots(self) -> dict[str, str]:
        """RecIS's name of each of our slots, of the optimizer that has the table."""
        names = getattr(self.physical.optimizer, "slot_names", None)
        return {} if names is None else dict(names)

    def _flat(self, name: str) -> int:
        if name == "embedding":
            return self.physical.row_dim
        return next(slot.width for slot in self.physical.slot_specs if slot.name == name)

    def _size(self) -> int:
        return (self.rows.end + self.block_size) // self.block_size * self.block_size

    def _laid_out(self, values: Tensor, numbers: Tensor, spare: float = 0.0) -> Tensor:
        return spread(values, numbers, self._size(), spare).to(self.physical.device)

    def _embedding(self) -> Tensor:
        (_, numbers), snapshot = self.rows.now(), self.physical.export()
        initial = self.physical.spec.distribution
        spare = initial.a if initial.kind == "constant" else 0.0
        return self._laid_out(snapshot.weights, numbers, spare).reshape(-1, *self.shape)

    def _slot(self, name: str) -> Tensor:
        (_, numbers), snapshot = self.rows.now(), self.physical.export()
        return self._laid_out(snapshot.slots[name], numbers).reshape(-1, *self.shape)

    def _write(self, name: str, values: Tensor) -> None:
        """Set "embedding", or a slot of ours, of all rows from values by row number."""
        (_, numbers), rows = self.rows.now(), self._rows_here()
        mine = values.reshape(len(values), -1).cpu()[numbers]
        if name == "embedding":
            self.physical.insert(replace(rows, weights=mine))
        else:
            self.physical.insert(replace(rows, slots={**rows.slots, name: mine}))

    def _rows_here(self) -> Snapshot:
        """All rows without their places."""
        found = self.physical.export()
        return Snapshot(found.ids, found.tables, found.weights, found.slots, scores=found.scores, stamps=found.stamps)

    def _write_steps(self, steps: Tensor) -> None:
        """Set RecIS's steps in which rows were last used, int64 [R, 1] by row number."""
        if self.step_filter is not None:
            marks, numbers = self.rows.now()
            self.step_filter.remember(steps[numbers, 0], numbers, len(steps))
            stamps = self.step_filter.clock.stamps(steps[numbers, 0])
            self.physical.insert(replace(self._rows_here(), stamps=stamps))

    def _steps(self) -> Tensor:
        steps = self.remember()
        return torch.zeros(0, 1, dtype=torch.int64) if steps is None else steps

    def remember(self) -> Tensor | None:
        """RecIS's steps int64 [R, 1] in which rows were last used; a deleted row keeps its last. None without the filter."""
        if self.step_filter is None:
            return None
        marks, numbers = self.rows.now()
        return self.step_filter.remember(self.step_filter.clock.of(marks.stamps), numbers, self._size())

    # Gradients

    def accept_grad(self, grad_index: Tensor, grad: Tensor) -> None:
        """Add a gradient [n, …] of row numbers int64 [n]. Rows without an id keep theirs for `grad()`; no step applies it."""
        self.asked = True
        self._given.accept(self.rows, list(self.tables.values()), grad_index, grad)

    def grad(self, accmulate_steps: int = 1) -> Tensor:
        """The pending gradient of this rank over accmulate_steps, as a sparse tensor [rows, …]; see sparse_gradient.py."""
        return as_sparse(self._given.parts(self.rows), self.shape, accmulate_steps).to(self.physical.device)

    def clear_grad(self) -> None:
        """Discard the pending gradient of all children."""
        next(iter(self.tables.values())).clear_grad()
        self.stepped()

    def stepped(self) -> None:
        """An optimizer has applied or dropped the gradients."""
        self._given, self.asked = GivenGradients(), False


def tables_of(params: Mapping[str, Any]) -> dict[str, OurTable]:
    """Our tables by child of {name: HashtableImpl or module HashTable}.

    Raises:
      TypeError: a value is no table. ValueError: there is none.
    """
    impls = {name: getattr(value, "_hashtable_impl", value) for name, value in params.items()}
    odd = [name for name, impl in impls.items() if not isinstance(impl, HashtableImpl)]
    if odd:
        raise TypeError(
            f"params must be {{name: table}}, as filter_out_sparse_param(model) gives; {odd[0]!r} is a "
            f"{type(params[odd[0]]).__name__}."
        )
    if not impls:
        raise ValueError("params must hold at least one table; the model has none.")
    return {table.name: table for impl in impls.values() for table in impl.tables.values()}
