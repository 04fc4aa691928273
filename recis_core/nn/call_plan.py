"""The part of a forward that never changes: which features share a storage, a lookup mode and a pooling.

    features  a  b  c  d          PlannedCall 0: storage X, insert        PlannedCall 1: storage Y, find
    ─ by storage and mode ─▶        request sum:  a, c                      request mean: d
    ─ by how they are pooled ─▶     request none: b

A plan is valid for one state: which tables train, which are trainable, and which features have weights. A forward
fills the plan with its tensors.

Sizes: F features, N ids, B bags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from recis_core.backends import LookupMode, Request
from recis_core.backends.records import LookupCall
from recis_core.nn.feature_input import FeatureInput
from recis_core.nn.hash_table import HashTable
from recis_core.nn.lookup_node import Job
from recis_core.options.admit_hook import AdmitHook
from recis_core.options.embedding_option import EmbeddingOption
from recis_core.table.table import Table

Inputs = Sequence[FeatureInput]  # of all features, in the order of the options
State = tuple[
    tuple[bool, ...], tuple[bool, ...], tuple[bool, ...]
]  # (training by table, trainable by table, weighted by feature)
MOST = 16  # plans that one engine keeps; one more drops them all


@dataclass(frozen=True)
class PlannedRequest:
    """Features that are pooled alike. `features` are their positions in the engine's options."""

    combiner: str
    tile_len: int | None
    dtype: torch.dtype
    weighted: bool
    features: tuple[int, ...]

    def filled(self, inputs: Inputs) -> Request:
        members = [inputs[f] for f in self.features]
        weights = _joined([f.weights for f in members if f.weights is not None]) if self.weighted else None
        return Request(self.combiner, _joined_offsets(members), weights, self.tile_len)

    def output_rows(self, inputs: Inputs) -> list[int]:
        if self.combiner == "none":
            return [len(inputs[f].ids) for f in self.features]
        return [inputs[f].bags for f in self.features]


@dataclass(frozen=True)
class PlannedCall:
    """Features looked up in one storage in one mode. `features` are positions, in the order of the call's ids and outputs."""

    table: Table
    mode: LookupMode
    trainable: bool
    requests: tuple[PlannedRequest, ...]
    features: tuple[int, ...]
    ordinals: tuple[int, ...]
    combiners: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]

    def job(self, inputs: Inputs) -> Job:
        """This forward's call, with the sizes that split its outputs into features."""
        call = self.call(inputs, tuple([request.filled(inputs) for request in self.requests]))
        splits = [request.output_rows(inputs) for request in self.requests]
        return Job(self.table, call, self.mode, self.trainable, splits, self.dtypes)

    def call(self, inputs: Inputs, requests: tuple[Request, ...] = ()) -> LookupCall:
        ids = [inputs[f].ids for f in self.features]
        return LookupCall(_joined(ids), tuple([len(i) for i in ids]), self.ordinals, requests)


class CallPlans:
    """An engine's plans by state; each is made at its first use.

    options: by feature. tables: the table of each feature, in the same order.
    """

    def __init__(self, options: Mapping[str, EmbeddingOption], tables: Sequence[HashTable]) -> None:
        self._options, self._tables = tuple(options.values()), tuple(tables)
        self._distinct = tuple(dict.fromkeys(tables))
        self._plans: dict[State, tuple[PlannedCall, ...]] = {}

    def of(self, inputs: Inputs) -> tuple[PlannedCall, ...]:
        """The plan for these inputs, in the order of the options: the same in every process."""
        state = (
            tuple([table.training for table in self._distinct]),
            tuple([table.requires_grad for table in self._distinct]),
            tuple([feature.weights is not None for feature in inputs]),
        )
        plan = self._plans.get(state)
        return self._made(state) if plan is None else plan

    def _made(self, state: State) -> tuple[PlannedCall, ...]:
        weighted = state[2]
        groups: dict[tuple[Table, LookupMode, bool], list[int]] = {}
        for f, (option, table) in enumerate(zip(self._options, self._tables, strict=True)):
            key = table.physical, table.lookup_mode(AdmitHook.of(option.admit_hook)), table.requires_grad
            groups.setdefault(key, []).append(f)
        plan = tuple(self._planned(*key, features, weighted) for key, features in groups.items())
        if len(self._plans) >= MOST:
            self._plans = {}
        self._plans[state] = plan
        return plan

    def _planned(
        self, table: Table, mode: LookupMode, trainable: bool, features: list[int], weighted: Sequence[bool]
    ) -> PlannedCall:
        kinds: dict[tuple[str, int | None, torch.dtype, bool], list[int]] = {}
        for f in features:
            option = self._options[f]
            kinds.setdefault((option.combiner, option.tile_len, option.output, weighted[f]), []).append(f)
        requests = tuple(PlannedRequest(*kind, tuple(members)) for kind, members in kinds.items())
        order = tuple(f for request in requests for f in request.features)
        return PlannedCall(
            table, mode, trainable, requests, order,
            ordinals=tuple(self._tables[f].ordinal for f in order),
            combiners=tuple(self._options[f].combiner for f in order),
            dtypes=tuple(request.dtype for request in requests),
        )  # fmt: skip


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0].contiguous() if len(tensors) == 1 else torch.cat(tensors)


def _joined_offsets(features: list[FeatureInput]) -> Tensor:
    """Offsets [sum of B + 1] of the features' bags, one feature after another."""
    first = features[0]
    if len(features) == 1:
        return first.offsets
    bags = [f.bags for f in features]
    if first.width and all(f.width == first.width for f in features):
        return torch.arange(0, sum(bags) * first.width + 1, first.width, device=first.offsets.device)
    ends = torch.cat([first.offsets[:1], *[f.offsets[1:] for f in features]])
    starts = torch.tensor([0, *accumulate(len(f.ids) for f in features[:-1])])
    ends[1:] += starts.repeat_interleave(torch.tensor(bags)).to(ends.device)
    return ends
