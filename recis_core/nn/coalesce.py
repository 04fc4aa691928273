"""Named tables of equal attributes share one physical table.

Sizes: F features, T logical tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from recis_core.backends import TableSpec, select
from recis_core.backends.interface import Backend
from recis_core.channel.channel import open_channel
from recis_core.channel.rank_group import world_rank, world_size
from recis_core.nn.table_hooks import check_hooks, eviction_of, score_of
from recis_core.options.precision import Precision
from recis_core.options.sharding import Sharding
from recis_core.table.admission.admitting_storage import AdmittingStorage
from recis_core.table.admission.gate import Gate
from recis_core.table.physical import PhysicalTable
from recis_core.table.plain_storage import PlainStorage
from recis_core.table.storage import Storage
from recis_core.table.table import Table
from recis_core.table.uid import distinct_uids

if TYPE_CHECKING:
    from recis_core.options.embedding_option import EmbeddingOption

# Tables that agree in these share one storage.
ATTRIBUTES = (
    "embedding_dim", "dtype", "device", "backend", "seed", "init", "trainable", "grad_reduce_by",
    "admit_hook", "filter_hook", "block_size", "unknown", "precision", "sharding",
    "residual_bytes", "cache", "storage",
)  # fmt: skip


@dataclass(frozen=True)
class Home:
    """A logical table's physical table, and its ordinal there."""

    table: Table
    ordinal: int


def table_name(feature: str, option: EmbeddingOption) -> str:
    return option.shared_name or feature


def coalesce(
    options: Mapping[str, EmbeddingOption], *, overlap: bool = False, hierarchical: bool = False
) -> dict[str, Home]:
    """Table name -> home, for all tables of the features, in as few physical tables as attributes allow.

    With several ranks in the options' process group, they share the tables, and the call is collective.
    overlap, hierarchical: as in EmbeddingEngine.

    Raises:
      ValueError: two options for one table disagree, or two names collide in their uid.
      ExchangeMismatch: ranks have different tables.
    """
    tables = _options_by_table(options)
    distinct_uids(list(tables))
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, option in tables.items():
        groups.setdefault(_attributes(option), []).append(name)
    size = world_size(_group(tables))
    homes = {name: home for names in groups.values() for name, home in _house([(n, tables[n]) for n in names], size)}
    if size > 1:
        from recis_core.exchange.exchange import Exchange

        shares: list[Any] = list(dict.fromkeys(home.table for home in homes.values()))
        Exchange(open_channel(_group(tables), hierarchical=hierarchical), shares, overlap=overlap)
    return homes


def _group(tables: Mapping[str, EmbeddingOption]) -> Any:
    groups = {id(option.pg): option.pg for option in tables.values()}
    if len(groups) > 1:
        raise ValueError(f"options of one engine must have one pg; got {len(groups)} different ones.")
    return next(iter(groups.values()), None)


def _attributes(option: EmbeddingOption) -> tuple[object, ...]:
    """Compares `table:N` as if it were "row": tables that differ only in the rank that holds them share storage."""
    values = {name: getattr(option, name) for name in ATTRIBUTES}
    if Sharding.of(option.sharding).kind == "table":
        values["sharding"] = Sharding()
    return tuple(values.values())


def _options_by_table(options: Mapping[str, EmbeddingOption]) -> dict[str, EmbeddingOption]:
    tables: dict[str, EmbeddingOption] = {}
    for feature, option in options.items():
        name = table_name(feature, option)
        other = tables.setdefault(name, option)
        for attribute in ATTRIBUTES:
            mine, theirs = getattr(option, attribute), getattr(other, attribute)
            if mine != theirs:
                raise ValueError(
                    f"features that share table {name!r} must agree on {attribute}; "
                    f"feature {feature!r} has {mine!r}, another has {theirs!r}."
                )
    return tables


def _house(tables: list[tuple[str, EmbeddingOption]], size: int) -> list[tuple[str, Home]]:
    names, option = [name for name, _ in tables], tables[0][1]
    backend = select(option.backend)
    spec = TableSpec(
        dim=option.embedding_dim,
        uids=distinct_uids(names),
        dtype=str(option.dtype).removeprefix("torch."),
        seed=option.seed,
        distribution=option.init.distribution(option.embedding_dim),
        device=str(option.device) if option.device is not None else default_device(backend),
        rows=option.block_size,
        score=score_of(option),
    )
    create = partial(_storage, backend, option)
    table = (
        PhysicalTable(create, spec, tuple(names), reduce_by_id=option.grad_reduce_by == "id")
        if size == 1
        else _share(create, spec, tables, size, option.grad_reduce_by)
    )
    table.eviction = eviction_of([option for _, option in tables], size)
    return [(name, Home(table, ordinal)) for ordinal, name in enumerate(names)]


def _storage(backend: Backend, option: EmbeddingOption, spec: TableSpec) -> Storage:
    storage = _rows(backend, option, spec)
    return storage if option.admits is None else AdmittingStorage(storage, Gate(option.admits, spec))


def _rows(backend: Backend, option: EmbeddingOption, spec: TableSpec) -> Storage:
    if option.cache is None:
        return PlainStorage(backend, spec)
    from recis_core.table.tiers.tiered_storage import TieredStorage  # loads all of tiers

    return TieredStorage(backend, option.cache, f"rank {world_rank(option.pg)}", spec)


def _share(
    create: Callable[[TableSpec], Storage],
    spec: TableSpec,
    tables: list[tuple[str, EmbeddingOption]],
    size: int,
    reduce_by: str,
) -> Table:
    from recis_core.exchange.sharded_table import ShardedTable

    shardings = [Sharding.of(option.sharding) for _, option in tables]
    check_hooks(shardings[0], tables[0][1])
    return ShardedTable(
        create, spec, tuple(name for name, _ in tables),
        reduce_by_id=reduce_by != "worker", each_rank_once=reduce_by == "rank", shardings=shardings,
        precision=Precision.of(tables[0][1].precision), world=size,
        rank=world_rank(tables[0][1].pg),
        residual_bytes=tables[0][1].residual_bytes,
    )  # fmt: skip


def default_device(backend: Backend) -> str:
    """ "cuda" if this backend and torch can both use it, else "cpu"."""
    return "cuda" if backend.name != "numba" and torch.cuda.is_available() else "cpu"
