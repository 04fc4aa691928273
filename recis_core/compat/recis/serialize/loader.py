"""Tables and tensors out of a directory in RecIS's format.

Sizes: n rows of a block.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from recis_core.backends import Snapshot
from recis_core.compat.recis.nn.modules.hashtable_impl import HashtableImpl
from recis_core.serialize.imports import RecisCheckpoint, recis_source
from recis_core.serialize.table_block import TableBlock

LOG = logging.getLogger("recis_core.serialize")
LoadInfo = dict[str, dict[str, list[str]]]


class Loader:
    """Reads rows into tables by id, and tensors in place; other rows of the tables stay.

    Args:
      checkpoint_path: a checkpoint, or an output directory, whose newest one is read.
      hashtables, tensors: {name: table or tensor}.
      parallel: taken, without effect.
      filter_func: gets {target: {source: [slots]}} of all tables and tensors, and may rename sources or leave targets out.

    As recis.serialize.Loader.
    """

    def __init__(
        self,
        checkpoint_path: str | os.PathLike[str],
        hashtables: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        parallel: int = 16,
        filter_func: Callable[[LoadInfo], LoadInfo] = lambda info: info,
    ) -> None:
        self._path, self._filter_func, self._tensors = checkpoint_path, filter_func, dict(tensors or {})
        self._homes: dict[str, HashtableImpl] = {
            child: impl for impl in (hashtables or {}).values() for child in impl.tables
        }

    def default_load_info(self) -> LoadInfo:
        """Everything, from sources of the targets' names."""
        info: LoadInfo = {}
        for child, impl in self._homes.items():
            info[child] = {child: ["id", *(slot.name() for slot in impl.slot_group().slots())]}
        return info | {name: {name: []} for name in self._tensors}

    def load(self) -> None:
        """Load. What the checkpoint does not have is left as it is, with a warning.

        Raises:
          FileNotFoundError, CorruptCheckpoint, StateMismatch: there is no whole checkpoint, or a table does not fit.
        """
        info, checkpoint = self._filter_func(self.default_load_info()), RecisCheckpoint(self._path)
        there = set(checkpoint.tensor_names())
        for target, sources in info.items():  # a filter's step first, by which rows' steps are read
            if target in self._tensors:
                self._load_tensor(checkpoint, there, target, next(iter(sources)))
        for target, sources in info.items():
            if target in self._homes:
                for source, slots in sources.items():
                    self._load_table(target, source, slots)

    def _load_tensor(self, checkpoint: RecisCheckpoint, there: set[str], target: str, source: str) -> None:
        if source not in there:
            LOG.warning("%s has no tensor %r; %r stays as it is.", self._path, source, target)
            return
        with torch.no_grad():
            self._tensors[target].copy_(checkpoint.read_tensor(source))

    def _load_table(self, target: str, name: str, slots: list[str]) -> None:
        impl = self._homes[target]
        step = impl.step_filter.slot_name if impl.step_filter is not None else "step_filter"
        prefix = next((slot.removesuffix("_exp_avg") for slot in impl.optimizer_slots().values()), None)
        found = recis_source(self._path, step_filter=step, optimizer=prefix).tables.get(name)
        if found is None:
            LOG.warning("%s has no table %r; %r stays as it is.", self._path, name, target)
            return
        if impl.step_filter is not None:
            impl.step_filter.agree()
        for block in found.blocks():
            put(impl, target, block, slots)


def put(impl: HashtableImpl, child: str, block: TableBlock, slots: list[str]) -> None:
    """Write the rows of a block that belong on this rank. slots: which are wanted, by RecIS's names."""
    table = impl.tables[child]
    mine = impl.physical.keeps(block.ids, table.ordinal)
    moments = {name: values[mine] for name, values in block.slots.items() if _wanted(impl, name, slots)}
    steps, stamps = block.marks.get("stamps"), None
    if steps is not None and impl.step_filter is not None:
        stamps = impl.step_filter.clock.stamps(steps)[mine]
    ids = block.ids[mine]
    ordinals = torch.full((len(ids),), table.ordinal, dtype=torch.int32)
    rows = block.rows[mine].to(table.option.dtype)
    impl.physical.insert(Snapshot(ids, ordinals, rows, moments, stamps=stamps, scores=stamps))


def _wanted(impl: HashtableImpl, ours: str, slots: list[str]) -> bool:
    """Slots of an optimizer that is not there yet wait for it."""
    name = impl.optimizer_slots().get(ours)
    return name is None or name in slots
