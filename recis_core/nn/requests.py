"""Coalescing of lookups: features of one physical table become one call, features pooled alike one request.

Sizes: F features, N ids, B bags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from recis_core.backends import LookupMode, Request
from recis_core.backends.records import LookupCall
from recis_core.nn.feature_input import FeatureInput
from recis_core.nn.hash_table import HashTable
from recis_core.nn.lookup_node import Job
from recis_core.options.admit_hook import AdmitHook
from recis_core.options.embedding_option import EmbeddingOption
from recis_core.table.physical import PhysicalTable

# combiner, tile_len, output dtype, weighted or not: what features of one request have in common
Kind = tuple[str, int | None, torch.dtype, bool]


@dataclass
class Group:
    """Features that ask one physical table in one mode, by the kind of request."""

    table: PhysicalTable
    mode: LookupMode
    trainable: bool
    requests: dict[Kind, list[tuple[FeatureInput, int]]] = field(default_factory=dict)

    def in_order(self) -> list[tuple[FeatureInput, str]]:
        """(feature, combiner), as the call's outputs come."""
        return [(feature, kind[0]) for kind, members in self.requests.items() for feature, _ in members]


def group_features(
    options: Mapping[str, EmbeddingOption], inputs: Mapping[str, FeatureInput], table_of: Callable[[str], HashTable]
) -> list[Group]:
    """Groups and their requests in the order of the options, the same in every process."""
    groups: dict[tuple[int, LookupMode, bool], Group] = {}
    for name, option in options.items():
        table, feature = table_of(name), inputs[name]
        mode = table.lookup_mode(AdmitHook.of(option.admit_hook))
        trains = table.requires_grad
        group = groups.setdefault((id(table.physical), mode, trains), Group(table.physical, mode, trains))
        kind = (option.combiner, option.tile_len, option.output, feature.weights is not None)
        group.requests.setdefault(kind, []).append((feature, table.ordinal))
    return list(groups.values())


def job_of(group: Group) -> Job:
    """The group's call, with the sizes that cut its outputs into features."""
    requests = tuple(_request(kind, [f for f, _ in request]) for kind, request in group.requests.items())
    splits = [[_output_rows(kind[0], f) for f, _ in request] for kind, request in group.requests.items()]
    call = call_of(group, requests)
    return Job(group.table, call, group.mode, group.trainable, splits, [kind[2] for kind in group.requests])


def call_of(group: Group, requests: tuple[Request, ...]) -> LookupCall:
    members = [member for request in group.requests.values() for member in request]
    ids = _joined([feature.ids for feature, _ in members])
    lengths = tuple(len(feature.ids) for feature, _ in members)
    return LookupCall(ids, lengths, tuple(ordinal for _, ordinal in members), requests)


def _request(kind: Kind, features: list[FeatureInput]) -> Request:
    combiner, tile_len, _, weighted = kind
    weights = _joined([f.weights for f in features if f.weights is not None]) if weighted else None
    return Request(combiner, _joined_offsets(features), weights, tile_len)


def _output_rows(combiner: str, feature: FeatureInput) -> int:
    return len(feature.ids) if combiner == "none" else feature.bags


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0].contiguous() if len(tensors) == 1 else torch.cat(tensors)


def _joined_offsets(features: list[FeatureInput]) -> Tensor:
    """Offsets of the features' bags one after another."""
    if len(features) == 1:
        return features[0].offsets
    joined = features[0].offsets.new_empty(1 + sum(f.bags for f in features))
    joined[0] = 0
    start, beg = 0, 1
    for f in features:
        torch.add(f.offsets[1:], start, out=joined[beg : beg + f.bags])
        start, beg = start + len(f.ids), beg + f.bags
    return joined
