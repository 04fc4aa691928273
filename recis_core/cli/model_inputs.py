"""What an engine's features become in a batch: integers fields of ids, floats dense inputs.

Sizes: B rows, X values of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recis_core.cli.columns import field_name
from recis_core.features.value import described, kind_of
from recis_core.ragged import RaggedTensor

NONE: Mapping[str, int] = {}


@dataclass(frozen=True)
class ModelInputs:
    """fields: ids by the field's name. dense: float32 [B, X] by feature."""

    fields: dict[str, Any]
    dense: dict[str, Tensor]

    @property
    def widths(self) -> dict[str, int]:
        """X of each dense input."""
        return {name: x.shape[1] for name, x in self.dense.items()}


def model_inputs(results: Mapping[str, Any], widths: Mapping[str, int] = NONE) -> ModelInputs:
    """Features as fields and dense inputs; of a dict, as IDMultiHash gives, each item is a field, feature_key.

    widths: X of dense inputs whose rows may all be empty here; unknown ones are 1 then.

    Raises:
      TypeError, ValueError: a feature is neither; it is named, with the way out.
    """
    fields: dict[str, Any] = {}
    dense: dict[str, Tensor] = {}
    for name, value in _single(results):
        if not isinstance(value, Tensor | RaggedTensor) or kind_of(value) not in ("int", "float"):
            raise TypeError(
                f"feature {name!r} gives {described(value)}; a model takes integers, as ids, and floats, as dense inputs. Hash "
                "or Vocabulary make ids of text."
            )
        if field_name(name) in fields or name in dense:
            raise ValueError(f"two features are named {name!r}; rename one of them.")
        if kind_of(value) == "int":
            fields[field_name(name)] = _ids(name, value)
        else:
            dense[name] = _numbers(name, value, widths.get(name, 1))
    if not fields:
        raise ValueError(
            f"at least one feature must give ids, integers; all of {', '.join(results) or 'none'} give floats."
        )
    return ModelInputs(fields, dense)


def _single(results: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in results.items():
        if isinstance(value, dict):
            yield from ((f"{name}_{key}", item) for key, item in value.items())
        else:
            yield name, value


def _ids(name: str, value: Any) -> Any:
    levels = len(value.offsets()) if isinstance(value, RaggedTensor) else value.dim()
    if levels > (1 if isinstance(value, RaggedTensor) else 2) or levels < 1:
        raise ValueError(
            f"feature {name!r} gives {described(value)}; a row of a field holds one id or one list of ids."
        )
    return value


def _numbers(name: str, value: Any, width: int) -> Tensor:
    """float32 [B, X]; a row without a value is 0."""
    x = _rectangle(name, value, width) if isinstance(value, RaggedTensor) else value
    x = x[:, None] if x.dim() == 1 else x
    if x.dim() != 2:
        raise ValueError(f"feature {name!r} gives {described(value)}; a dense input is [B] or [B, X].")
    if not bool(x.isfinite().all()):
        row = int((~x.isfinite()).any(1).nonzero()[0])
        raise ValueError(
            f"feature {name!r} gives {x[row].tolist()} in row {row} of a batch; FillNull replaces NaN, Normalize's clip infinity."
        )
    return x.to(torch.float32)


def _rectangle(name: str, value: RaggedTensor, width: int) -> Tensor:
    lengths = value.offsets()[-1].diff()
    filled = lengths[lengths > 0]
    if len(value.offsets()) != 1 or value.values().dim() != 1 or (len(filled) and bool((filled != filled[0]).any())):
        raise ValueError(
            f"feature {name!r} gives rows of several lengths; a dense input has one length, or none in a row."
        )
    return value.to_dense(0.0) if len(filled) else torch.zeros(len(value), width, device=value.device)
