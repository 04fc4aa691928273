"""RecIS's HashTable: a table of this process alone, or the storage of an engine's tables.

Sizes: N ids.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.compat.recis.absent import refuse_name
from recis_core.compat.recis.nn.hashtable_hook import AdmitHook, FilterHook
from recis_core.compat.recis.nn.initializers import Initializer
from recis_core.compat.recis.nn.modules.children_info import ChildrenInfo
from recis_core.compat.recis.nn.modules.hashtable_hook_impl import HashtableHookFactory, ReadOnlyHookImpl
from recis_core.compat.recis.nn.modules.hashtable_impl import HashtableImpl
from recis_core.compat.recis.nn.modules.hashtable_register import HashtableRegister
from recis_core.compat.recis.nn.modules.own_group import own_group
from recis_core.compat.recis.nn.modules.slice import WHOLE, Slice, gen_slice
from recis_core.compat.recis.nn.modules.slots import SlotGroup
from recis_core.compat.recis.nn.modules.state_dicts import (
    filter_out_sparse_param,
    is_hashtable,
    split_sparse_dense_state_dict,
)
from recis_core.compat.recis.nn.modules.table_options import StorageOptions, our_name, storage_options
from recis_core.nn.coalesce import coalesce
from recis_core.nn.hash_table import HashTable as OurTable
from recis_core.options.admit_hook import AdmitHook as OurAdmitHook

__all__ = [
    "HashTable",
    "HashtableRegister",
    "Slice",
    "filter_out_sparse_param",
    "gen_slice",
    "is_hashtable",
    "split_sparse_dense_state_dict",
]


class HashTable(nn.Module):
    """A table of 64-bit ids on this process; ranks do not share it, as in RecIS, and its gradient is divided by WORLD_SIZE.

    Args:
      embedding_shape: of a row, one dimension or more.
      block_size: rows of a block, by which `embeddings()` and slots grow.
      dtype: float32 or bfloat16.
      children, coalesced: named tables in it; ids then hold a child's number in their upper 12 bits.
      slice: taken as it is; ours deals ids by their hash.
      initializer: None is zeros.
      grad_reduce_by: "worker" sums over occurrences, "id" takes their mean.

    Raises:
      ValueError: the process has had a table of that name; a dtype or hook cannot be had.

    As recis.nn.modules.hashtable.HashTable.
    """

    def __init__(
        self,
        embedding_shape: Sequence[int],
        block_size: int = 5,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        coalesced: bool = False,
        children: Sequence[str] | None = None,
        slice: Slice = WHOLE,
        initializer: Initializer | None = None,
        name: str = "hashtable",
        grad_reduce_by: str = "worker",
        filter_hook: FilterHook | None = None,
    ) -> None:
        super().__init__()
        if grad_reduce_by not in ("id", "worker"):
            raise ValueError(f"grad_reduce_by must be id or worker; got {grad_reduce_by!r}.")
        names = [name] if not children else list(children)
        HashtableRegister().require_free(names)
        made = storage_options(
            torch.Size(embedding_shape).numel(), block_size, dtype, device, initializer, grad_reduce_by, filter_hook,
            storage=name, pg=own_group(),
        )  # fmt: skip
        homes = coalesce({our_name(child): made.option for child in names})
        tables = {child: OurTable.of(our_name(child), made.option, homes[our_name(child)]) for child in names}
        self._bind(name, tables, list(embedding_shape), made, coalesced, filter_hook)

    @classmethod
    def of(
        cls,
        name: str,
        tables: Mapping[str, OurTable],
        made: StorageOptions,
        filter_hook: FilterHook | None,
        coalesced: bool,
    ) -> HashTable:
        """Tables of an engine, by child, as one."""
        table = cls.__new__(cls)
        nn.Module.__init__(table)
        table._bind(name, tables, [made.option.embedding_dim], made, coalesced, filter_hook)
        return table

    def _bind(
        self,
        name: str,
        tables: Mapping[str, OurTable],
        shape: list[int],
        made: StorageOptions,
        coalesced: bool,
        filter_hook: FilterHook | None,
    ) -> None:
        self._name, self._initializer, self.step_clock = name, made.initializer, made.clock
        self._grad_reduce_by, self._worker_num = made.option.grad_reduce_by, int(os.environ.get("WORLD_SIZE", 1))
        self._hashtable_impl = HashtableImpl(tables, shape, made.option.block_size, coalesced)
        self._filter_hook_impl: nn.Module = nn.Identity()
        if filter_hook is not None:
            self._filter_hook_impl = HashtableHookFactory().create_filter_hook(self, filter_hook)
        self._register_state_dict_hook(_with_table)
        for child in tables:
            HashtableRegister().register(child, f"{name}, rows of {shape}")

    def forward(self, ids: Tensor, admit_hook: AdmitHook | None = None) -> Tensor:
        """Rows [N, …] of ids int64 [N], on the ids' device, with gradient in training. Unknown ids are inserted in training.

        Raises:
          ValueError: admit_hook is another than ReadOnly.
        """
        hook = None if admit_hook is None else OurAdmitHook("ReadOnly")
        if admit_hook is not None and not isinstance(
            HashtableHookFactory().create_admit_hook(self, admit_hook), ReadOnlyHookImpl
        ):
            raise ValueError(f"admit_hook must be ReadOnly; got {admit_hook}.")
        impl = self._hashtable_impl
        parts = impl.by_child(ids.reshape(-1).to(impl.physical.device))
        rows = [table.train(self.training)(mine, hook) for table, mine, _ in parts]
        made = torch.cat(rows) if rows else torch.zeros(0, impl.physical.row_dim, device=impl.physical.device)
        if len(parts) > 1:
            made = made[torch.cat([at for _, _, at in parts]).argsort()]
        if made.requires_grad:
            impl.asked = True
            if self._grad_reduce_by == "worker" and self._worker_num > 1:
                made.register_hook(lambda grad: grad / self._worker_num)
            self._looked_up(ids)
        return made.to(ids.device).reshape(*ids.shape, *impl.shape)

    def _looked_up(self, ids: Tensor) -> None:
        """Tell a filter of the user's own; ours reads the rows' stamps."""
        if self.step_clock is None and not isinstance(self._filter_hook_impl, nn.Identity):
            self._filter_hook_impl(self._hashtable_impl.row_numbers(ids.reshape(-1).unique()))

    def initializer(self) -> Initializer:
        return self._initializer

    @property
    def device(self) -> torch.device:
        return self._hashtable_impl.physical.device

    @property
    def coalesce(self) -> bool:
        return self._hashtable_impl.children_info().is_coalesce()

    @property
    def children_hashtable(self) -> list[str]:
        return self._hashtable_impl.children_info().children()

    def children_info(self) -> ChildrenInfo:
        return self._hashtable_impl.children_info()

    def accept_grad(self, grad_index: Tensor, grad: Tensor) -> None:
        """Add a gradient of row numbers."""
        self._hashtable_impl.accept_grad(grad_index, grad)

    def grad(self, acc_step: int = 1) -> Tensor:
        """The pending gradient over acc_step, a sparse tensor."""
        return self._hashtable_impl.grad(acc_step)

    def clear_grad(self) -> None:
        self._hashtable_impl.clear_grad()

    def insert(self, ids: Tensor, embeddings: Tensor) -> None:
        """Set the rows of unique ids."""
        self._hashtable_impl.insert(ids, embeddings)

    def clear(self) -> None:
        self._hashtable_impl.clear()

    def ids(self) -> Tensor:
        return self._hashtable_impl.ids()

    def ids_map(self) -> tuple[Tensor, Tensor]:
        """(ids, row numbers)."""
        return self._hashtable_impl.ids_map()

    def embeddings(self) -> Tensor:
        """[R, …] by row number, with the spare rows of the last block."""
        return self.slot_group().slot_by_name("embedding").value()

    def slot_group(self) -> SlotGroup:
        return self._hashtable_impl.slot_group()

    def __str__(self) -> str:
        return f"HashTable_{self._name}"

    __repr__ = __str__


def _with_table(module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    """A state dict holds the table itself, by its name."""
    state_dict[module._name] = module._hashtable_impl  # type: ignore[index]


def __getattr__(name: str) -> Any:
    return refuse_name(__name__, name)
