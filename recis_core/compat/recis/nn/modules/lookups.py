"""Our engine under RecIS's meanings; EmbeddingEngine and DynamicEmbedding call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from recis_core.compat.recis.nn.modules.coalesced_group import HashTableCoalescedGroup
from recis_core.compat.recis.nn.modules.embedding_option import EmbeddingOption
from recis_core.compat.recis.nn.modules.feature_values import FeatureValue, absent, means_as_sums, read
from recis_core.compat.recis.nn.modules.hashtable import HashTable
from recis_core.compat.recis.nn.modules.hashtable_hook_impl import HashtableHookFactory, ReadOnlyHookImpl
from recis_core.compat.recis.nn.modules.hashtable_register import HashtableRegister
from recis_core.compat.recis.nn.modules.ids import encoded
from recis_core.compat.recis.nn.modules.table_options import StorageOptions, our_name, storage_options
from recis_core.nn.call_plan import CallPlans
from recis_core.nn.embedding_engine import EmbeddingEngine as OurEngine
from recis_core.options.admit_hook import AdmitHook as OurAdmitHook
from recis_core.options.embedding_option import EmbeddingOption as OurOption


class Lookups:
    """The tables of groups, and lookups of all features that a call has.

    Args:
      groups: by the name of their storage.
      coalesced: whether ids are cut to 52 bits, and ids of `ids()` hold their child's number.
      block_sizes: by storage.

    Raises:
      ValueError: the process has had a table of one of the names.
    """

    def __init__(
        self, groups: Mapping[str, HashTableCoalescedGroup], *, coalesced: bool, block_sizes: Mapping[str, int]
    ) -> None:
        self.groups = dict(groups)
        self.options = {f: option for group in groups.values() for f, option in group.options.items()}
        HashtableRegister().require_free(child for group in groups.values() for child in group.children)
        self.coalesced = coalesced
        made = {name: _storage(name, group, block_sizes[name]) for name, group in groups.items()}
        self.storage_of = {f: name for name, group in groups.items() for f in group.options}
        ours = {f: _our_option(option, made[self.storage_of[f]].option) for f, option in self.options.items()}
        self.engine = OurEngine(ours)
        self._admit_by_feature(ours)
        self.tables = {name: self._table(name, group, made[name]) for name, group in groups.items()}
        self.device = {f: self.tables[name].device for f, name in self.storage_of.items()}

    def _admit_by_feature(self, ours: Mapping[str, OurOption]) -> None:
        """In RecIS a hook is of the lookup, so features of one table may differ in it; ours is the table's."""
        hooked = {f: replace(o, admit_hook=_admit(self.options[f])) for f, o in ours.items()}
        self.engine._plans = CallPlans(hooked, [self.engine._table_of(f) for f in ours])

    def _table(self, name: str, group: HashTableCoalescedGroup, made: StorageOptions) -> HashTable:
        tables = {child: self.engine.table(our_name(child)) for child in group.children}
        return HashTable.of(name, tables, made, group.embedding_info().filter_hook, self.coalesced)

    def __call__(self, given: Mapping[str, Any], *, training: bool) -> dict[str, Tensor]:
        """Outputs of the features that are given, which all have an option."""
        values = {
            f: read(f, given[f], option, masks=self.coalesced, device=self.device[f])
            for f, option in self.options.items()
            if f in given
        }
        calls = {f: self.storage_of[f] + self.options[f].runtime_info() for f in values}
        inputs = means_as_sums(values, self.options, calls)
        inputs |= {f: absent(self.device[f]).ids for f in self.options if f not in given}
        if self.engine.training != training:
            self.engine.train(training)
        found = self.engine(inputs)
        if training:
            self._note(values)
        return {f: self._shaped(found[f], value, self.options[f]) for f, value in values.items()}

    def _note(self, values: Mapping[str, FeatureValue]) -> None:
        """Which tables this training forward asked, and of which rows, for optimizers and filters."""
        for f, value in values.items():
            table = self.tables[self.storage_of[f]]
            table._hashtable_impl.asked |= self.options[f].trainable
            ids = value.ids.values()
            table._looked_up(encoded(ids, self.groups[self.storage_of[f]].encode_id(f)) if self.coalesced else ids)

    @staticmethod
    def _shaped(out: Tensor, value: FeatureValue, option: EmbeddingOption) -> Tensor:
        """[B, D], [B, tile_len, D] of a RaggedTensor under "tile"; on the input's device, detached if not trainable."""
        if option.tile_len is not None and value.ragged:
            out = out.reshape(*out.shape[:-1], option.tile_len, option.embedding_dim)
        return (out if option.trainable else out.detach()).to(value.device)


def _storage(name: str, group: HashTableCoalescedGroup, block_size: int) -> StorageOptions:
    info = group.embedding_info()
    reduce = "rank" if info.grad_reduce_by == "id" else "worker"  # ids reach RecIS's table once a rank
    return storage_options(
        info.embedding_dim, block_size, info.dtype, info.device, info.initializer, reduce, info.filter_hook,
        storage=name, pg=info.pg,
    )  # fmt: skip


def _our_option(option: EmbeddingOption, storage: OurOption) -> OurOption:
    """Means are sums of weights that `means_as_sums` makes."""
    tile = option.tile_len is not None
    return replace(
        storage,
        shared_name=our_name(option.shared_name),
        combiner="tile" if tile else "sum",
        combiner_kwargs={} if option.tile_len is None else {"tile_len": option.tile_len},
        use_weight=not tile,
    )


def _admit(option: EmbeddingOption) -> OurAdmitHook | None:
    """Raises ValueError: the hook is not registered, or is another than ReadOnly."""
    if option.admit_hook is None:
        return None
    known = HashtableHookFactory()._known_admits
    if known.get(option.admit_hook.name) is not ReadOnlyHookImpl:
        raise ValueError(f"admit_hook must be ReadOnly; got {option.admit_hook}.")
    return OurAdmitHook("ReadOnly")
