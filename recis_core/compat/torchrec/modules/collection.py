"""What EmbeddingBagCollection and EmbeddingCollection share: tables, the inputs of a lookup, optimizers in backward.

Sizes: B bags, N ids, D dim.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.compat.torchrec.modules.embedding_configs import BaseEmbeddingConfig, check_config
from recis_core.compat.torchrec.modules.table_parameter import TableParameter
from recis_core.compat.torchrec.modules.table_weight import TableWeight
from recis_core.compat.torchrec.optim.in_backward import InBackward
from recis_core.compat.torchrec.types import stored_dtype
from recis_core.nn import EmbeddingEngine, EmbeddingOption, UniformInitializer
from recis_core.nn.outside_graphs import outside_graphs
from recis_core.nn.table_module import TableModule
from recis_core.ragged import RaggedTensor
from recis_core.ragged.keyed_jagged import from_keyed_jagged

Options = Mapping[str, Mapping[str, Any]]
GIVEN = {"embedding_dim", "dtype", "device", "shared_name", "combiner", "use_weight", "unknown"}


@dataclass(frozen=True)
class Lookup:
    """A feature in a table. name: of its output, feature@table where several tables have the feature. key: of the engine."""

    feature: str
    config: Any
    name: str

    @property
    def key(self) -> str:
        return f"{self.feature}@{self.config.name}"


def lookups_of(tables: Sequence[BaseEmbeddingConfig]) -> list[Lookup]:
    """The lookups of tables, table after table. Empty feature_names become the table's name.

    Raises:
      ValueError: two tables have one name, or a table has a feature twice.
    """
    names = [config.name for config in tables]
    if len(set(names)) < len(names):
        raise ValueError(f"tables must have names of their own; got {names}.")
    for config in tables:
        config.feature_names = config.feature_names or [config.name]
        if len(set(config.feature_names)) < len(config.feature_names):
            raise ValueError(f"table {config.name!r} must have each feature once; got {config.feature_names}.")
    features = [feature for config in tables for feature in config.feature_names]
    return [
        Lookup(feature, config, f"{feature}@{config.name}" if features.count(feature) > 1 else feature)
        for config in tables
        for feature in config.feature_names
    ]


class TableCollection(TableModule):
    """Base of both. The engine is no submodule: its tables are those of `tables`, under TorchRec's names."""

    def __init__(
        self,
        tables: Sequence[BaseEmbeddingConfig],
        kind: type[BaseEmbeddingConfig],
        weighted: bool,
        device: str | torch.device | None,
        table_options: Options | None,
    ) -> None:
        super().__init__()
        self._weighted = weighted
        if not isinstance(tables, Sequence):
            raise TypeError(f"tables must be a list of {kind.__name__}s; got {type(tables).__name__}.")
        for config in tables:
            check_config(config, kind)
        lookups = lookups_of(tables)
        options = _options(tables, table_options or {})
        place = None if device is None or torch.device(device).type == "meta" else device
        engine = EmbeddingEngine(
            {
                each.key: EmbeddingOption(
                    each.config.embedding_dim, dtype=stored_dtype(each.config.data_type, each.config.name), device=place,
                    shared_name=each.config.name, combiner=self._combiner(each.config), use_weight=weighted,
                    unknown="initial", **options[each.config.name],
                )
                for each in lookups
            }
        )  # fmt: skip
        self._configs, self._lookups, self._engine = list(tables), lookups, (engine,)
        self._in_backward = InBackward()
        self._embed = outside_graphs(TableCollection._embedded)

    def _combiner(self, config: Any) -> str:
        raise NotImplementedError

    def _house(self) -> nn.ModuleDict:
        """{table name: TableWeight}, with first values where a config has init_fn."""
        weights = {}
        for config in self._configs:
            table = self.engine.table(config.name)
            weights[config.name] = TableWeight(table, config.num_embeddings, config.use_virtual_table)
        self._weights = tuple(weights.values())
        self._fill()
        return nn.ModuleDict(weights)

    def _fill(self) -> None:
        for config, weight in zip(self._configs, self._weights, strict=True):
            if isinstance(config, BaseEmbeddingConfig) and config.init_fn is not None:
                weight.fill(config.init_fn)

    @property
    def engine(self) -> EmbeddingEngine:
        """The engine that looks up: for a Prefetcher, stats(), evict() and others."""
        return self._engine[0]

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self._weights[0].table.physical.device if self._weights else torch.device("cpu")

    def table_parameters(self) -> list[TableParameter]:
        return [weight.weight for weight in self._weights]

    def reset_parameters(self) -> None:
        """Forget all rows, and fill those of tables with init_fn anew."""
        for weight in self._weights:
            weight.table.clear()
        self._fill()

    def features(self) -> list[str]:
        """The keys that a KeyedJaggedTensor must have."""
        return list(dict.fromkeys(each.feature for each in self._lookups))

    def inputs(self, features: Any) -> dict[str, RaggedTensor]:
        """The engine's features of a KeyedJaggedTensor.

        Raises:
          KeyError: a feature is missing. IndexError: an id is not below num_embeddings; on other devices than the CPU this
            is checked under RECIS_CHECK=1. ValueError: is_weighted, and there are no weights.
        """
        given = from_keyed_jagged(features)
        missing = [each.feature for each in self._lookups if each.feature not in given]
        if missing:
            raise KeyError(f"features {missing} are missing; got {list(given)}.")
        if self._weighted and features.weights_or_none() is None:
            raise ValueError("is_weighted=True needs weights, one for each value; this KeyedJaggedTensor has none.")
        for each in self._lookups:
            _check_bounds(given[each.feature].values(), each)
        return {each.key: self._input(given[each.feature], each.config) for each in self._lookups}

    def _input(self, feature: RaggedTensor, config: Any) -> RaggedTensor:
        return feature

    def _embedded(self, features: Any) -> list[Any]:
        """Outputs of the lookups, in order."""
        exchange = self.engine.exchange
        with nullcontext() if exchange is None else exchange.channel.failing_together("forward"):
            self._in_backward.prepare(self.table_parameters())
            inputs = self.inputs(features)
        outputs = self.engine(inputs)
        found = [outputs[each.key] for each in self._lookups]
        self._in_backward.watch([out.values() if isinstance(out, RaggedTensor) else out for out in found])
        return found


def _options(tables: Sequence[BaseEmbeddingConfig], given: Options) -> dict[str, dict[str, Any]]:
    """EmbeddingOption's further arguments by table: those of "*", then the table's own."""
    names = [config.name for config in tables]
    unknown = set(given) - {*names, "*"}
    taken = {argument for options in given.values() for argument in options} & GIVEN
    if unknown or taken:
        raise ValueError(
            f"table_options must be by table, of {names} or '*', without {sorted(GIVEN)}, which configs say; "
            f"got {sorted(unknown | taken)}."
        )
    return {config.name: {**_initial(config), **given.get("*", {}), **given.get(config.name, {})} for config in tables}


def _initial(config: Any) -> dict[str, Any]:
    low, high = config.get_weight_init_min(), config.get_weight_init_max()
    return {"initializer": UniformInitializer(low, high)}


def _check_bounds(ids: Tensor, lookup: Lookup) -> None:
    config = lookup.config
    if config.use_virtual_table or not ids.numel() or ids.dtype.is_floating_point:
        return
    if ids.device.type != "cpu" and os.environ.get("RECIS_CHECK") != "1":
        return
    low, high = torch.aminmax(ids)
    if low < 0 or high >= config.num_embeddings:
        wrong = int(low) if low < 0 else int(high)
        raise IndexError(
            f"ids of feature {lookup.feature!r} must be from 0 to {config.num_embeddings - 1}, for num_embeddings of table "
            f"{config.name!r} is {config.num_embeddings}; got {wrong}. use_virtual_table=True in its config takes any id."
        )
