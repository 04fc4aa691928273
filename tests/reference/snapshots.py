"""The reference table's way in and out of a Snapshot."""

from __future__ import annotations

import numpy as np
import torch

from recis_core.backends.records import Snapshot
from recis_core.backends.spec import Clock, LookupMode
from tests.reference.table import Entry, ReferenceTable


def export(table: ReferenceTable) -> Snapshot:
    """All of the table, ascending by key, placement included."""
    entries = [table.entries[key] for key in sorted(table.entries)]
    ordinal = {uid: t for t, uid in enumerate(table.spec.uids)}
    weights = np.array([e.weights for e in entries], np.float32).reshape(len(entries), table.spec.dim)
    return Snapshot(
        ids=torch.tensor([e.key[1] for e in entries], dtype=torch.int64),
        tables=torch.tensor([ordinal[e.key[0]] for e in entries], dtype=torch.int32),
        weights=torch.from_numpy(weights).to(getattr(torch, table.spec.dtype)),
        slots={s.name: _slot(entries, s.name, s.width) for s in table.slot_specs},
        slot_numbers=torch.tensor([_slot_number(table, e) for e in entries], dtype=torch.int64),
        row_numbers=torch.tensor([e.row for e in entries], dtype=torch.int32),
        scores=torch.tensor([e.score for e in entries], dtype=torch.int32),
        stamps=torch.tensor([e.stamp for e in entries], dtype=torch.int32),
        free_rows=torch.tensor(table.free_rows, dtype=torch.int32),
        next_row=table.next_row,
        buckets=table.buckets,
    )


def _slot_number(table: ReferenceTable, entry: Entry) -> int:
    return -1 - table.stash.index(entry) if entry.slot is None else entry.slot


def _slot(entries: list[Entry], name: str, width: int) -> torch.Tensor:
    return torch.from_numpy(np.array([e.slots[name] for e in entries], np.float32).reshape(len(entries), width))


def restore(table: ReferenceTable, snapshot: Snapshot) -> None:
    """Keep the placement where the rules allow, else insert anew."""
    if _keeps_placement(table, snapshot):
        _restore_placement(table, snapshot)
    else:
        mode = LookupMode(insert=True, touch=False)
        table.lookup(snapshot.ids.numpy(), snapshot.tables.numpy(), mode, Clock(0, 0))
    _write_values(table, snapshot)


def _keeps_placement(table: ReferenceTable, snapshot: Snapshot) -> bool:
    if table.entries or snapshot.slot_numbers is None:
        return False
    fits = table.spec.max_rows is None or snapshot.next_row <= table.spec.max_rows
    return fits and (snapshot.buckets == table.buckets or table.spec.grows)


def _restore_placement(table: ReferenceTable, snapshot: Snapshot) -> None:
    table.buckets, table.next_row = snapshot.buckets, snapshot.next_row
    table.free_rows = snapshot.free_rows.tolist()
    # _new_entries sorts by key, which a snapshot already is
    new = table._new_entries(snapshot.ids.numpy(), snapshot.tables.numpy())
    numbers = snapshot.slot_numbers.tolist()
    for entry, number, row in zip(new, numbers, snapshot.row_numbers.tolist(), strict=True):
        entry.row, entry.slot = row, number if number >= 0 else None
    in_stash_order = sorted(range(len(new)), key=lambda u: -numbers[u])
    for u in in_stash_order:
        table._put(new[u])


def _write_values(table: ReferenceTable, snapshot: Snapshot) -> None:
    for u, key in enumerate(table.keys(snapshot.ids.numpy(), snapshot.tables.numpy())):
        entry = table.entries[key]
        entry.weights = snapshot.weights[u].float().numpy().astype(table.compute)
        entry.slots |= {name: values[u].numpy().astype(table.compute) for name, values in snapshot.slots.items()}
        entry.score = entry.score if snapshot.scores is None else int(snapshot.scores[u])
        entry.stamp = entry.stamp if snapshot.stamps is None else int(snapshot.stamps[u])
