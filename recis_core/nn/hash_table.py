"""A logical table: unbounded 64-bit ids to rows.

Sizes: N ids, D dim.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recis_core.backends import LookupMode, Request, Snapshot
from recis_core.backends.errors import RecisError
from recis_core.backends.records import LookupCall
from recis_core.nn import slices
from recis_core.nn.coalesce import Home, coalesce
from recis_core.nn.id_input import as_ids
from recis_core.nn.lookup_node import Job, run_jobs
from recis_core.nn.outside_graphs import outside_graphs, require_eager
from recis_core.nn.slot_group import SlotGroup
from recis_core.nn.table_verbs import TableVerbs
from recis_core.options.admit_hook import AdmitHook
from recis_core.options.embedding_option import EmbeddingOption
from recis_core.options.filter_hook import FilterHook
from recis_core.options.initializers import Initializer
from recis_core.plain_torch import in_plain_torch
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.table.exchange_interface import Exchange


class HashTable(TableVerbs):
    """A dynamic table with storage of its own, or a table of an engine.

    Args:
      embedding_shape: [dim].
      block_size, dtype, device, initializer, grad_reduce_by, filter_hook, admit_hook, seed, backend, unknown: as in
        EmbeddingOption.
      name: used in state_dict keys and to seed initial values: equal names give equal initial values.

    As recis.nn.modules.hashtable.HashTable, except that the engine coalesces and slices tables.
    """

    @in_plain_torch
    def __init__(
        self,
        embedding_shape: list[int],
        block_size: int = 10_240,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
        initializer: Initializer | None = None,
        name: str = "hashtable",
        grad_reduce_by: str = "worker",
        filter_hook: FilterHook | str | None = None,
        admit_hook: AdmitHook | str | None = None,
        seed: int = 0,
        backend: str | None = None,
        unknown: str = "zeros",
    ) -> None:
        super().__init__()
        if len(embedding_shape) != 1:
            raise ValueError(f"embedding_shape must be [dim]; got {list(embedding_shape)}.")
        option = EmbeddingOption(
            embedding_shape[0], block_size, dtype, device,
            initializer=initializer, grad_reduce_by=grad_reduce_by, filter_hook=filter_hook, admit_hook=admit_hook,
            seed=seed, backend=backend, unknown=unknown,
        )  # fmt: skip
        self._bind(name, option, coalesce({name: option})[name])

    @classmethod
    def of(cls, name: str, option: EmbeddingOption, home: Home) -> HashTable:
        """The table of that name, in storage that other tables may share."""
        table = cls.__new__(cls)
        nn.Module.__init__(table)
        table._bind(name, option, home)
        return table

    def _bind(self, name: str, option: EmbeddingOption, home: Home) -> None:
        self.name, self.option = name, option
        self.physical, self.ordinal, self.named = home.table, home.ordinal, home.table.named(home.ordinal)
        self._embed = outside_graphs(_embed)
        self.requires_grad = option.trainable

    @property
    def dim(self) -> int:
        return self.option.embedding_dim

    @property
    def slices(self) -> slices.KeyPath:
        """The attribute path of state_dict keys, for torch.distributed.checkpoint."""
        return slices.KeyPath()

    def lookup_mode(self, admit_hook: AdmitHook | None = None) -> LookupMode:
        """Insert unknown ids in training; in eval or under a ReadOnly hook find only.

        Raises:
          ValueError: admit_hook is neither ReadOnly nor the table's hook.
        """
        own = AdmitHook.of(self.option.admit_hook)
        hook = admit_hook or own
        if hook is not None and not hook.read_only and hook != own:
            raise ValueError(
                f"admit_hook {hook} is a table's, which must remember what it has seen; table {self.name!r} has {own}. "
                "Set it in EmbeddingOption(admit_hook=…)."
            )
        return LookupMode(insert=self.training and (hook is None or not hook.read_only), unknown=self.option.unknown)

    if TYPE_CHECKING:

        def __call__(self, ids: Tensor, admit_hook: AdmitHook | None = None) -> Tensor: ...

    def forward(self, ids: Tensor, admit_hook: AdmitHook | None = None) -> Tensor:
        """Rows of ids int64 [...] -> float32 [..., D], with gradient. In training unknown ids are inserted.

        Narrower integers and NumPy arrays are converted.
        """
        rows: Tensor = self._embed(self, ids, admit_hook)
        return rows

    def check_ids(self, ids: Tensor, feature: str | None = None) -> None:
        """Raises TypeError or ValueError unless ids are int64 on the table's device."""
        what = f"ids of feature {feature!r}" if feature else "ids"
        if ids.dtype != torch.int64:
            raise TypeError(f"{what} must be int64; got {ids.dtype}.")
        here, there = self.physical.device, ids.device
        if here.type != there.type or (here.index or 0) != (there.index or 0):
            raise ValueError(
                f"{what} are on {there}; table {self.name!r} is on {here}. "
                f"Move them with ids.to({str(here)!r}), or set EmbeddingOption(device={str(there)!r})."
            )

    def ids(self) -> Tensor:
        """All ids, int64 [n], ascending, on the CPU."""
        return self.snapshot().ids

    def embeddings(self) -> Tensor:
        """Rows [n, D] in the order of ids(), in the storage dtype, on the CPU."""
        return self.snapshot().weights

    def slot_group(self) -> SlotGroup:
        """Optimizer slots in the order of ids()."""
        return SlotGroup(self.snapshot().slots)

    @in_plain_torch
    def snapshot(self) -> Snapshot:
        """This logical table's rows and slots, on the CPU."""
        return self.named.snapshot()

    @in_plain_torch
    def insert(self, ids: Tensor, embeddings: Tensor) -> None:
        """Set the rows of unique ids, int64 [n], to embeddings [n, D]; their slots get initial values.

        Raises:
          ValueError: shapes disagree or an id is repeated.
        """
        ids = as_ids(ids, "ids")
        self.check_ids(ids)
        if embeddings.shape != (len(ids), self.dim):
            raise ValueError(f"embeddings must be [{len(ids)}, {self.dim}]; got {list(embeddings.shape)}.")
        if len(ids.unique()) != len(ids):
            raise ValueError("ids to insert must be unique; some are repeated.")
        self.named.insert(ids, embeddings.detach().to(self.option.dtype))

    @in_plain_torch
    def accept_grad(self, index: Tensor, grad: Tensor) -> None:
        """Add grad float32 [n, D] for the distinct row numbers `index` (see lookup_index) to the pending gradient."""
        ids_by_row = {row: i for i, row in self._numbered().items()}
        missing = [row for row in index.tolist() if row not in ids_by_row]
        if missing:
            raise ValueError(f"index must hold row numbers of table {self.name!r}; {missing[:5]} are not.")
        ids = torch.tensor([ids_by_row[row] for row in index.tolist()], dtype=torch.int64, device=index.device)
        self.physical.accept_gradient(ids, self.ordinal, index.to(torch.int32), grad)

    @in_plain_torch
    def lookup_index(self, ids: Tensor) -> Tensor:
        """Row numbers int64 [n] of ids, -1 for unknown; inserts nothing."""
        rows = self._numbered()
        return torch.tensor([rows.get(i, -1) for i in ids.tolist()], dtype=torch.int64, device=ids.device)

    def _numbered(self) -> dict[int, int]:
        """Row number by id.

        Raises:
          RecisError: the table is in tiers, whose row numbers change.
        """
        mine = self.snapshot()
        if mine.row_numbers is None:
            raise RecisError(
                f"rows of table {self.name!r} have no numbers that last, for it is in tiers (cache=…). Go by id."
            )
        return dict(zip(mine.ids.tolist(), mine.row_numbers.tolist(), strict=True))

    @in_plain_torch
    def grad(self, acc_step: int = 1) -> tuple[Tensor, Tensor]:
        """(row numbers int64 [U], summed gradient float32 [U, D] ÷ acc_step) of this table's pending gradient."""
        found = self.physical.gradient()
        if found is None:
            return torch.zeros(0, dtype=torch.int64), torch.zeros(0, self.dim)
        _, tables, rows, values = found
        mine = tables == self.ordinal
        return rows[mine].long(), values[mine] / acc_step

    @in_plain_torch
    def clear_grad(self) -> None:
        """Discard the pending gradients of all tables that share this storage."""
        self.physical.discard()
        if self.physical.optimizer is not None:
            self.physical.optimizer.drop_factors()

    @in_plain_torch
    def stats(self) -> dict[str, int]:
        """Counts of this rank.

        rows: rows of this table now. Of the storage, which tables may share: storage_rows and buckets now; found, inserted,
        unknown, evicted, erased and stashed since the storage was made. With an admit_hook also admitted and rejected, in
        unique ids of each forward, and counter_overflow. With a filter_hook the rows of this table that it evicted, such as
        evicted_by_lru. With a cache the counts of its tiers, such as cache_hits_disk; all are listed in
        recis_core.table.tiers.cache_stats.CacheStats.
        """
        return self.physical.stats(self.ordinal)

    @in_plain_torch
    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        slices.save(self, destination, prefix)

    @in_plain_torch
    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Replace this rank's rows by those of the state's slices that belong on this rank."""
        head, odd = prefix + "slices.", []  # type: tuple[str, list[str]]
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, odd, error_msgs
        )  # loads hooks, and what a subclass or a user has added
        unexpected_keys.extend(key for key in odd if not key.startswith(head))
        mine = {key: value for key, value in state_dict.items() if key.startswith(head)}
        slices.load(self, mine, prefix, missing_keys, unexpected_keys, error_msgs)

    def extra_repr(self) -> str:
        return f"{self.name!r}, dim={self.dim}, backend={self.physical.backend.name!r}, device={self.physical.device}"


@in_plain_torch
@as_one
def _embed(table: HashTable, ids: Tensor, admit_hook: AdmitHook | None) -> Tensor:
    require_eager()
    exchange = table.physical.exchange
    with nullcontext() if exchange is None else exchange.channel.failing_together("forward"):
        ids = as_ids(ids, "ids")
        table.check_ids(ids)
    flat = ids.reshape(-1)
    offsets = torch.tensor([0, len(flat)], device=ids.device)
    call = LookupCall(flat, (len(flat),), (table.ordinal,), (Request("none", offsets),))
    job = Job(table.physical, call, table.lookup_mode(admit_hook), table.requires_grad, [[len(flat)]])
    [[rows]] = run_jobs([job])
    return rows.reshape(*ids.shape, table.dim)


def evict_tables(tables: Mapping[str, HashTable]) -> dict[str, int]:
    """HashTable.evict of each table; shared storage is evicted once."""
    gone = {physical: physical.evict() for physical in dict.fromkeys(table.physical for table in tables.values())}
    return {name: gone[table.physical][table.ordinal] for name, table in tables.items()}


def filter_out_sparse_param(model: nn.Module) -> dict[str, HashTable]:
    """{table name: table} of all tables in a model: what sparse optimizers take.

    Raises:
      ValueError: two tables of the model have one name.
    """
    found: dict[str, HashTable] = {}
    for module in model.modules():
        if isinstance(module, HashTable) and found.setdefault(module.name, module) is not module:
            raise ValueError(f"two tables of the model are named {module.name!r}; give one another shared_name.")
    return found


def exchange_of(model: nn.Module) -> Exchange | None:
    """The exchange of the model's tables; None where no other rank shares them."""
    tables = list(filter_out_sparse_param(model).values())  # no next() of a generator: its end may swallow a signal
    return tables[0].physical.exchange if tables else None
