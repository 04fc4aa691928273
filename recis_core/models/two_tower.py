"""Two towers: users and items as vectors, whose product is the score.

Sizes: B rows of a batch, M items, D dim, O width of a tower's output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recis_core.exchange import Precision
from recis_core.models.inputs import taken
from recis_core.models.mlp import mlp
from recis_core.models.shardings import Shardings, check_names, sharding_of
from recis_core.nn import AdmitHook, CacheConfig, EmbeddingEngine, EmbeddingOption, FilterHook

NOTHING: Mapping[str, str] = MappingProxyType({})


class TwoTower(nn.Module):
    """score(user, item) = <tower_u(v_user), tower_i(v_item)> / temperature

    Trained by `Retrieval`, which draws negatives; searched by an `ItemIndex`.

    Args:
      user_fields, item_fields: names of sparse features; the first of item_fields is the item's id.
      embedding_dim: D. width: O. hidden: widths of each tower's MLP between.
      tables: {feature: the field whose table it shares}; others have tables of their own. {"history": "item"}, say.
      normalize: whether towers' outputs have length 1; scores are then cosines over temperature, which wants to be small, 0.05.
      combiner: of ids in a bag.
      seed, backend, precision, admit_hook, filter_hook: as in EmbeddingOption. sharding: one for all tables, or by table;
        a table without an entry has "row".
      cache: a CacheConfig whose bytes all tables share.

    Raises:
      ValueError: a side has no field, both have one of a name, temperature is not above 0, `tables` names what is no field, or
        `sharding` names a table that the model does not have.

    Yi et al. 2019, Sampling-bias-corrected neural modeling for large corpus item recommendations, RecSys,
    doi:10.1145/3298689.3346996.
    """

    def __init__(
        self,
        user_fields: Sequence[str],
        item_fields: Sequence[str],
        embedding_dim: int = 16,
        *,
        width: int = 32,
        hidden: Sequence[int] = (64,),
        tables: Mapping[str, str] = NOTHING,
        normalize: bool = False,
        temperature: float = 1.0,
        combiner: str = "sum",
        seed: int = 0,
        backend: str | None = None,
        precision: str | Precision | None = None,
        sharding: Shardings = "row",
        admit_hook: AdmitHook | str | None = None,
        filter_hook: FilterHook | str | None = None,
        cache: CacheConfig | None = None,
    ) -> None:
        super().__init__()
        self.user_fields, self.item_fields = list(user_fields), list(item_fields)
        fields = [*self.user_fields, *self.item_fields]
        _check(self.user_fields, self.item_fields, tables, temperature)
        table_of = {f: tables.get(f, f) for f in fields}
        check_names(sharding, sorted(set(table_of.values())))
        self.embeddings = EmbeddingEngine(
            {
                f: EmbeddingOption(
                    embedding_dim, shared_name=table, combiner=combiner, seed=seed, backend=backend, precision=precision,
                    sharding=sharding_of(sharding, table), admit_hook=admit_hook, filter_hook=filter_hook,
                )
                for f, table in table_of.items()
            },
            cache=cache,
        )  # fmt: skip
        self.user_tower = mlp([len(self.user_fields) * embedding_dim, *hidden, width])
        self.item_tower = mlp([len(self.item_fields) * embedding_dim, *hidden, width])
        self.normalize, self.temperature = normalize, temperature

    @property
    def item(self) -> str:
        """The feature that holds an item's id."""
        return self.item_fields[0]

    def sparse_features(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The features that forward passes to `embeddings`; for a Prefetcher."""
        return taken(batch, (*self.user_fields, *self.item_fields))

    def vectors(self, users: Mapping[str, Any], items: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """({user field: ids of B rows}, {item field: ids of M rows}) -> float32 ([B, O], over temperature; [M, O]).

        One lookup for both sides. A side may have no row: then its ids are int64 [0].
        """
        out = self.embeddings(taken(users, self.user_fields) | taken(items, self.item_fields))
        user = self.user_tower(torch.cat([out[f] for f in self.user_fields], dim=1))
        item = self.item_tower(torch.cat([out[f] for f in self.item_fields], dim=1))
        if self.normalize:
            user, item = F.normalize(user, dim=1), F.normalize(item, dim=1)
        return user / self.temperature, item

    def users(self, batch: Mapping[str, Any]) -> Tensor:
        """{user field: ids} -> float32 [B, O], over temperature. Collective with several ranks, as each lookup."""
        given = taken(batch, self.user_fields)
        return self.vectors(given, _no_rows(self.item_fields, given[self.user_fields[0]]))[0]

    def items(self, batch: Mapping[str, Any]) -> Tensor:
        """{item field: ids} -> float32 [M, O]. Collective with several ranks."""
        given = taken(batch, self.item_fields)
        return self.vectors(_no_rows(self.user_fields, given[self.item]), given)[1]

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """{field: ids} -> float32 [B], the score of each row's user and item."""
        user, item = self.vectors(batch, batch)
        return (user * item).sum(1)


def _no_rows(fields: Sequence[str], beside: Any) -> dict[str, Tensor]:
    """No ids of these fields, on the device of another feature."""
    return dict.fromkeys(fields, torch.zeros(0, dtype=torch.int64, device=beside.device))


def _check(users: Sequence[str], items: Sequence[str], tables: Mapping[str, str], temperature: float) -> None:
    if not users or not items or set(users) & set(items):
        raise ValueError(
            f"user_fields and item_fields must have one field each at least, and none in common; got {users}, {items}."
        )
    unknown = [f for pair in tables.items() for f in pair if f not in (*users, *items)]
    if unknown:
        raise ValueError(f"tables must name fields, {', '.join((*users, *items))}; got {unknown[0]!r}.")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0; got {temperature!r}.")
