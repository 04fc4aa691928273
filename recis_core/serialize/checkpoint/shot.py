"""All that one rank saves, as it is at a step; written later, while training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recis_core.serialize.checkpoint.changes import Changed
from recis_core.serialize.checkpoint.contents import Contents
from recis_core.serialize.checkpoint.sharded import SHARDS, without_shards
from recis_core.serialize.checkpoint.table_files import FILE_BYTES
from recis_core.serialize.checkpoint.table_shot import StorageShot, delta_shot, full_shot
from recis_core.serialize.checkpoint.tables_aside import BESIDE
from recis_core.serialize.part_writers import PartWriters
from recis_core.serialize.saved_state import Split, split_parts
from recis_core.serialize.shared_state import RanksPart, part_of
from recis_core.serialize.store_path import Place
from recis_core.serialize.table_entry import TableEntry
from recis_core.serialize.tables import beside_rows, late_gradients
from recis_core.table.table import Table


@dataclass(frozen=True)
class Shot:
    """parts: this rank's, on the CPU. storages: their rows. in_memory: whether all may change before it is written."""

    step: int
    rank: int | None
    parts: Split
    storages: list[StorageShot]

    @property
    def in_memory(self) -> bool:
        return all(each.copied for each in self.storages)

    def write(self, place: Place, file_bytes: int = FILE_BYTES) -> RanksPart:
        tables: dict[str, TableEntry] = {}
        with PartWriters(place) as parts:
            for name, (tree, tensors) in self.parts.items():  # while the first rows are read
                parts.write(name, tree, tensors)
            for each in self.storages:
                tables |= each.write(parts, self.rank, file_bytes)
        return RanksPart(parts.written, tables)


def take_shot(
    contents: Contents,
    step: int,
    metrics: Mapping[str, float],
    rank: int,
    world: int,
    changed: Changed | None,
    later: bool = True,
) -> Shot:
    """What a checkpoint holds of this rank. Collective if ranks share tables.

    changed: of a delta; None: all rows. later: whether training goes on before all is written.

    Raises:
      TypeError, ValueError: something has no safe form.
    """
    storages = list(dict.fromkeys(table.physical for table in contents.tables.values()))
    late = late_gradients(storages)
    own: dict[str, Any] = contents.own()
    own |= {f"{BESIDE}{i}": beside_rows(table, late[table]) for i, table in enumerate(storages)}
    shared, shards = _apart(contents.shared() | {"metrics": dict(metrics)})
    own |= shards
    parts = {part_of(name, rank) if world > 1 else name: value for name, value in own.items()}
    if rank == 0:
        parts |= shared
    split = {name: (tree, _copied(tensors)) for name, (tree, tensors) in split_parts(parts).items()}
    return Shot(step, rank if world > 1 else None, split, [_rows(table, changed, later) for table in storages])


def _apart(shared: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parts that are equal on all ranks, and parts of this rank's blocks of their sharded tensors."""
    whole, own = {}, {}
    for name, value in shared.items():
        shards: dict[str, Any] = {}
        whole[name] = without_shards(value, shards)
        if shards:
            own[name + SHARDS] = shards
    return whole, own


def _rows(table: Table, changed: Changed | None, later: bool) -> StorageShot:
    return full_shot(table, later) if changed is None else delta_shot(table, changed[table])


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, in memory of their own; tensors that share memory are copied apart."""
    return {name: torch.empty_like(t, device="cpu").copy_(t) for name, t in tensors.items()}
