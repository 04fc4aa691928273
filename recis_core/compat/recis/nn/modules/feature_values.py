"""A feature's input as our engine takes it under RecIS's meanings: cut ids, and weights that make sums of means.

Sizes: N ids, B bags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recis_core.compat.recis.nn.modules.embedding_option import EmbeddingOption
from recis_core.compat.recis.nn.modules.ids import masked
from recis_core.compat.recis.nn.modules.mean_divisors import FEW, by_count, by_weight
from recis_core.compat.recis.ragged.tensor import RaggedTensor as Unchecked
from recis_core.nn.id_input import as_ids
from recis_core.ragged import RaggedTensor


@dataclass(frozen=True)
class FeatureValue:
    """ids with int64 offsets and float weights or None; `device` is the input's, to which the output returns."""

    ids: RaggedTensor
    ragged: bool
    device: torch.device

    @property
    def bags(self) -> int:
        return len(self.ids.offsets()[-1]) - 1

    @property
    def count(self) -> int:
        return len(self.ids.values())


def read(name: str, value: Any, option: EmbeddingOption, *, masks: bool, device: torch.device) -> FeatureValue:
    """Read one feature.

    Raises:
      TypeError: the value is no tensor of ids [B, F] or RaggedTensor. ValueError: offsets do not fit.
    """
    if isinstance(value, RaggedTensor):
        ids = value.checked() if isinstance(value, Unchecked) else value
    elif isinstance(value, Tensor) and not value.is_sparse and value.dim() in (1, 2):
        width = 1 if value.dim() == 1 else value.shape[1]
        offsets = torch.arange(len(value) + 1, device=value.device) * width
        ids = RaggedTensor(value.reshape(-1), offsets)
    else:
        got = f"a {value.layout} tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"feature {name!r} must be ids [B, F] or a RaggedTensor; got {got}.")
    weighted = option.use_weight and option.combiner != "tile"
    values = as_ids(ids.values(), f"ids of feature {name!r}")
    plain = RaggedTensor(masked(values) if masks else values, ids.offsets(), weight=ids.weight() if weighted else None)
    return FeatureValue(plain.to(device), isinstance(value, RaggedTensor), value.device)


def absent(device: torch.device) -> FeatureValue:
    """A feature that a call does not have: no bags."""
    none = torch.zeros(0, dtype=torch.int64, device=device)
    return FeatureValue(RaggedTensor(none, torch.zeros(1, dtype=torch.int64, device=device)), True, device)


def means_as_sums(
    features: Mapping[str, FeatureValue], options: Mapping[str, EmbeddingOption], calls: Mapping[str, str]
) -> dict[str, RaggedTensor]:
    """Inputs by feature; those of "mean" get weights, so that our sum is RecIS's mean.

    calls: features of one text are one call of RecIS, whose ids an offset decide the divisor.
    """
    ids: dict[str, int] = {}
    offsets: dict[str, int] = {}
    for name, value in features.items():
        ids[calls[name]] = ids.get(calls[name], 0) + value.count
        offsets[calls[name]] = offsets.get(calls[name], 1) + value.bags
    few = {call: ids[call] <= FEW * offsets[call] for call in ids}
    return {
        name: _mean(value.ids, few[calls[name]]) if options[name].combiner == "mean" else value.ids
        for name, value in features.items()
    }


def _mean(ids: RaggedTensor, few: bool) -> RaggedTensor:
    offsets, weight = ids.offsets()[-1], ids.weight()
    count = len(offsets) - 1
    segments = torch.repeat_interleave(torch.arange(count, device=offsets.device), offsets.diff())
    ones = torch.ones(len(segments), device=offsets.device) if weight is None else weight.detach().float()
    weights = (by_weight if few else by_count)(ones, segments, count)
    return RaggedTensor(ids.values(), ids.offsets(), weight=weights)
