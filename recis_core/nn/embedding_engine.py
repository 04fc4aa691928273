"""All sparse features of a model in one module.

Sizes: F features, N ids, B bags, D dim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn
from torch.distributed.algorithms.join import Join, Joinable, JoinHook

from recis_core.backends import LookupCall
from recis_core.backends.errors import RecisError
from recis_core.nn.call_plan import CallPlans
from recis_core.nn.coalesce import coalesce, table_name
from recis_core.nn.engine_tables import EngineTables
from recis_core.nn.feature_input import FeatureInput, FeatureReader, Offsets
from recis_core.nn.hash_table import HashTable, evict_tables, filter_out_sparse_param
from recis_core.nn.joining import channel_of, names_here
from recis_core.nn.lookup_node import run_jobs
from recis_core.nn.outside_graphs import outside_graphs, require_eager
from recis_core.nn.table_module import TableModule
from recis_core.options.cache_config import CacheConfig
from recis_core.options.embedding_option import EmbeddingOption
from recis_core.plain_torch import in_plain_torch
from recis_core.table.table import Table
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.table.exchange_interface import Exchange


class EmbeddingEngine(TableModule, Joinable):
    """Embeds a dict of features, coalescing their tables and lookups.

    Args:
      options: {feature: EmbeddingOption}. Tables of equal attributes share storage; features with one
        explicit shared_name share a table.
      overlap: with several ranks, send gradients during backward. Then every rank must run a backward after every
        forward: if a rank uses no output, the other ranks wait until they time out.
        Not with error feedback, accumulation or a GradScaler.
      hierarchical: with several ranks, exchange inside a node first, then between nodes.
      cache: a CacheConfig for all tables whose option has none. These tables share its bytes, in proportion to the
        bytes of rows that each uses; they share disk_index_bytes equally.

    Raises:
      ValueError: options for one table disagree. TypeError: an option is not an EmbeddingOption.
      BackendUnavailable: a named backend cannot run here.

    As recis.nn.EmbeddingEngine.
    """

    @in_plain_torch
    def __init__(
        self,
        options: Mapping[str, EmbeddingOption],
        *,
        overlap: bool = False,
        hierarchical: bool = False,
        cache: CacheConfig | None = None,
    ) -> None:
        nn.Module.__init__(self)
        Joinable.__init__(self)
        for feature, option in options.items():
            if not isinstance(option, EmbeddingOption):
                raise TypeError(
                    f"the option of feature {feature!r} must be an EmbeddingOption; got {type(option).__name__}."
                )
            if "." in table_name(feature, option):
                raise ValueError(
                    f"table name {table_name(feature, option)!r} holds a '.', which state_dict keys reserve."
                )
        sharing = [feature for feature, option in options.items() if option.cache is None and cache is not None]
        options = {f: replace(o, cache=cache) if f in sharing else o for f, o in options.items()}
        self.options = MappingProxyType(dict(options))
        self._embed = outside_graphs(_embed)
        homes = coalesce(options, overlap=overlap, hierarchical=hierarchical)
        if sharing:
            from recis_core.table.tiers.shared_budget import share_budget  # loads all of tiers

            share_budget(homes[table_name(f, options[f])].table.storage.tiers for f in sharing)
        self.tables = EngineTables()
        for feature, option in options.items():
            name = table_name(feature, option)
            if name not in self.tables._modules:
                # add_module refuses names of attributes, such as "type" or "forward"; tables may have them.
                self.tables._modules[name] = HashTable.of(name, option, homes[name])
        tables = [self._table_of(feature) for feature in options]
        self._readers = [
            FeatureReader(feature, option.use_weight, option.padding_id, table, table.physical.device)
            for (feature, option), table in zip(options.items(), tables, strict=True)
        ]
        self._plans = CallPlans(options, tables)
        self._exchange = tables[0].physical.exchange if tables else None

    def table(self, name: str) -> HashTable:
        """The table of that name.

        Raises:
          KeyError: there is none.
        """
        found = self.tables._modules.get(name)
        if not isinstance(found, HashTable):
            raise KeyError(f"no table {name!r}; this engine has {', '.join(self.tables._modules)}.")
        return found

    if TYPE_CHECKING:

        def __call__(self, features: Mapping[str, Any]) -> dict[str, Tensor]: ...

    def forward(self, features: Mapping[str, Any]) -> dict[str, Tensor]:
        """Embed every feature that has an option; return the others unchanged.

        Args:
          features: {name: Tensor or NumPy array [B] or [B, F] of ids, one bag a row | RaggedTensor | weighted RaggedTensor},
            or a KeyedJaggedTensor of TorchRec. Ids are int64; narrower integers are widened, uint64 keeps its bits.

        Returns:
          {name: [B, D]} in the order given; [B, tile_len·D] under "tile"; [..., D] for ragged inputs of more levels. Under
          "none" a RaggedTensor with values [N, D]. A feature without an option keeps its value. For a type checker, cast the
          last two.

        Raises:
          KeyError: a feature with an option is missing.
          TypeError, ValueError: ids are no integers or on another device, or offsets do not fit the ids.
          TableFull: a table has no room.
        """
        if self.training:
            Join.notify_join_context(self)
        embedded: dict[str, Tensor] = self._embed(self, features)
        return embedded

    @in_plain_torch
    def training_calls(self, features: Mapping[str, Any]) -> list[tuple[Table, LookupCall]]:
        """The ids that a training forward of these features will look up in each storage, without requests.

        Looks up nothing. Tables that insert no ids are left out: all of them in eval.

        Raises:
          KeyError, TypeError, ValueError: as forward.
        """
        inputs = self._read(_as_dict(features))
        return [(planned.table, planned.call(inputs)) for planned in self._plans.of(inputs) if planned.mode.insert]

    @in_plain_torch
    def ids_of(self, features: Mapping[str, Any]) -> dict[str, Tensor]:
        """{feature: int64 [N]}: the ids that a forward of these features looks up, padding left out. Looks up nothing.

        Raises:
          KeyError, TypeError, ValueError: as forward.
        """
        return {read.name: read.ids for read in self._read(_as_dict(features))}

    def _read(self, features: Mapping[str, Any]) -> list[FeatureInput]:
        if not self.options.keys() <= features.keys():
            missing = [name for name in self.options if name not in features]
            raise KeyError(f"features {missing} have an EmbeddingOption and are missing; got {list(features)}.")
        offsets: Offsets = {}
        return [reader.read(features[reader.name], offsets) for reader in self._readers]

    def features_of(self, table: str) -> list[str]:
        """The features that look ids up in the table of that name."""
        return [feature for feature, option in self.options.items() if table_name(feature, option) == table]

    def _table_of(self, feature: str) -> HashTable:
        return self.table(table_name(feature, self.options[feature]))

    def sparse_parameters(self) -> dict[str, HashTable]:
        """{table name: table}: what sparse optimizers take."""
        return filter_out_sparse_param(self)

    @property
    def exchange(self) -> Exchange | None:
        """The tables' exchange with other ranks; None with one rank."""
        return self._exchange

    @in_plain_torch
    @as_one
    def sync_gradients(self) -> None:
        """Combine pending gradients, once per optimizer step; with several ranks send them to the rows' owners.

        Idempotent; unscale, clip and step call it. Collective: every rank calls, with gradients or without.
        """
        for table in self.sparse_parameters().values():
            table.physical.sync()

    @in_plain_torch
    @as_one
    def evict(self) -> dict[str, int]:
        """Evict this rank's rows that each table's filter_hook selects; {table: how many}. See FilterHook.

        Raises:
          RecisError: a table is replicated and may have pending gradients.
        """
        return evict_tables(self.sparse_parameters())

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """For torch's Join([engine, optimizer]); see recis_core.nn.joining."""
        from recis_core.nn.joining import ForwardShadow

        return ForwardShadow(self)

    @property
    def join_device(self) -> torch.device:
        return channel_of(self.exchange).device

    @property
    def join_process_group(self) -> Any:
        return channel_of(self.exchange).parent

    def __dir__(self) -> list[str]:
        return names_here(super().__dir__(), self.exchange)

    @in_plain_torch
    def flush(self) -> None:
        """Write every updated row to the disk of its cache, and sync: CacheConfig(keep=True) can then open the rows again.

        Tables without a disk are skipped. Optimizers' own state, such as t, is not written: see their state_dict().

        Raises:
          StorageFull: nothing was lost; call again once there is space.
        """
        for table in self._storages():
            table.flush()

    @in_plain_torch
    def close(self) -> None:
        """Release the files, threads and disk space of caches. Call it last: afterwards a forward or stats() raises RecisError.

        Flushes what CacheConfig(keep=True) keeps. If never called, the end of the engine or the process releases the same.
        In a forked child it does nothing, for the files are the parent's.

        Raises:
          StorageFull: nothing was lost; call again once there is space.
          RecisError, OSError: a disk failed, or another process changed its files. The disk was released all the same, and
            keeps the rows of its last flush. Other tables' disks are closed before this is raised.
        """
        if any(table.physical.is_a_parents for table in self.sparse_parameters().values()):
            return
        errors = [error for table in self._storages() if (error := _error_of(table.close)) is not None]
        if errors:
            raise errors[0]

    def _storages(self) -> dict[Table, None]:
        return dict.fromkeys(table.physical for table in self.sparse_parameters().values())

    @in_plain_torch
    def stats(self) -> dict[str, dict[str, int]]:
        """HashTable.stats of each table. Tables that share storage give the same storage counts."""
        return {name: table.stats() for name, table in self.sparse_parameters().items()}

    def register_full_backward_hook(self, hook: Any, prepend: bool = False) -> NoReturn:
        raise RecisError(
            "an engine gives a dict, of which torch calls no backward hooks. Register one on an output, "
            "out['user'].register_hook(hook), or on a layer after the engine."
        )

    def register_full_backward_pre_hook(self, hook: Any, prepend: bool = False) -> NoReturn:
        self.register_full_backward_hook(hook)

    def register_backward_hook(self, hook: Any) -> NoReturn:
        self.register_full_backward_hook(hook)


def _error_of(call: Callable[[], None]) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None


@in_plain_torch
@as_one
def _embed(engine: EmbeddingEngine, features: Any) -> dict[str, Any]:
    require_eager()
    exchange = engine._exchange
    with nullcontext() if exchange is None else exchange.channel.failing_together("forward"):
        given = _as_dict(features)
        inputs = engine._read(given)
        plan = engine._plans.of(inputs)
        jobs = [planned.job(inputs) for planned in plan]
    outputs = dict(given)
    for planned, tensors in zip(plan, run_jobs(jobs), strict=True):
        for f, combiner, tensor in zip(planned.features, planned.combiners, tensors, strict=True):
            outputs[inputs[f].name] = inputs[f].shaped(tensor, combiner)
    return outputs


def _as_dict(features: Any) -> Mapping[str, Any]:
    if isinstance(features, Mapping):
        return features
    if callable(getattr(features, "keys", None)) and callable(getattr(features, "weights_or_none", None)):
        from recis_core.ragged import from_keyed_jagged

        return from_keyed_jagged(features)
    raise TypeError(f"features must be a dict or a KeyedJaggedTensor; got {type(features).__name__}.")
