"""Where gradients are not finite: ids of tables, and dense parameters.

Sizes: n keys, D dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.nn import HashTable
from recis_core.table.table import Table

Features = Callable[[str, Tensor], list[str]]  # of a table and ids
SHOWN = 10  # ids that an error names


@dataclass(frozen=True)
class OfTable:
    """ids: those whose gradient holds NaN or inf, ascending. features: that asked for one of them."""

    table: str
    features: list[str]
    ids: list[int]

    def __str__(self) -> str:
        features = f" (feature{'s' * (len(self.features) > 1)} {', '.join(self.features)})" if self.features else ""
        more = f" and {len(self.ids) - SHOWN} more" if len(self.ids) > SHOWN else ""
        return (
            f"table {self.table}{features}: id{'s' * (len(self.ids) > 1)} {', '.join(map(str, self.ids[:SHOWN]))}{more}"
        )


@dataclass(frozen=True)
class OfParameter:
    """values: how many of the gradient's numbers, on one rank, are NaN or inf."""

    parameter: str
    values: int
    of: int

    def __str__(self) -> str:
        return f"parameter {self.parameter}: {self.values} of {self.of} values"


@dataclass(frozen=True)
class NonFinite:
    """What is not finite on one rank, or on several. False where nothing is found."""

    tables: tuple[OfTable, ...] = ()
    parameters: tuple[OfParameter, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tables or self.parameters)

    def __str__(self) -> str:
        return "; ".join(map(str, [*self.tables, *self.parameters]))

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def of_ranks(cls, found: Iterable[Mapping[str, Any]]) -> NonFinite:
        """United from `plain` of each rank, in their order; of a parameter what the first rank says."""
        tables: dict[str, OfTable] = {}
        parameters: dict[str, OfParameter] = {}
        for rank in found:
            for each in (OfTable(**values) for values in rank["tables"]):
                tables[each.table] = _united(tables.get(each.table), each)
            for of in (OfParameter(**values) for values in rank["parameters"]):
                parameters.setdefault(of.parameter, of)
        return cls(tuple(tables.values()), tuple(parameters.values()))


def _united(one: OfTable | None, other: OfTable) -> OfTable:
    if one is None:
        return other
    features = list(dict.fromkeys([*one.features, *other.features]))
    return replace(one, features=features, ids=sorted({*one.ids, *other.ids}))


def find_non_finite(model: nn.Module, tables: Mapping[str, HashTable], features: Features) -> NonFinite:
    """Searches this rank's gradients, those that wait here for the exchange and those of rows on this rank."""
    found = [OfTable(name, features(name, ids), ids.tolist()) for name, ids in _ids_by_table(tables) if len(ids)]
    return NonFinite(tuple(found), tuple(_parameters(model)))


def _ids_by_table(tables: Mapping[str, HashTable]) -> Iterator[tuple[str, Tensor]]:
    bad = {physical: _keys(physical) for physical in dict.fromkeys(t.physical for t in tables.values())}
    for name, table in tables.items():
        keys = [ids[ordinals == table.ordinal] for ids, ordinals in bad[table.physical]]
        yield name, torch.cat(keys).unique() if keys else torch.zeros(0, dtype=torch.int64)


def _keys(table: Table) -> list[tuple[Tensor, Tensor]]:
    """(ids int64 [n], ordinals) of gradients with a NaN or inf, on the CPU."""
    gradients = [table.gradient(), table.waiting_gradient()]
    return [_bad(ids, ordinals, values) for ids, ordinals, values in filter(None, map(_keyed, gradients))]


def _keyed(gradient: tuple[Tensor, ...] | None) -> tuple[Tensor, Tensor, Tensor] | None:
    return None if gradient is None else (gradient[0], gradient[1], gradient[-1])


def _bad(ids: Tensor, ordinals: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    at = ~values.isfinite().all(1)
    return ids[at].cpu(), ordinals[at].cpu()


def _parameters(model: nn.Module) -> Iterator[OfParameter]:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            values = values_of(parameter.grad)
            count = values.numel() - int(values.isfinite().sum())
            if count:
                yield OfParameter(name, count, values.numel())


def values_of(gradient: Tensor) -> Tensor:
    """The numbers of a gradient on this rank: of a DTensor its shard, of a sparse tensor its values."""
    local: Tensor = getattr(gradient, "_local_tensor", gradient)
    return local._values() if local.is_sparse else local
