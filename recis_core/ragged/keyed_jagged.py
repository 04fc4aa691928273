"""TorchRec's KeyedJaggedTensor, recognized by its methods: torchrec is never imported."""

from __future__ import annotations

from typing import Any

import torch

from recis_core.ragged.tensor import RaggedTensor

METHODS = ("keys", "values", "weights_or_none", "lengths", "stride")


def is_keyed_jagged(features: Any) -> bool:
    """Whether features have the methods of a KeyedJaggedTensor."""
    return all(callable(getattr(features, name, None)) for name in METHODS)


def from_keyed_jagged(features: Any) -> dict[str, RaggedTensor]:
    """One RaggedTensor for each key; they share memory with the KeyedJaggedTensor.

               row 0   row 1   row 2
        user   a b     .       c          values  a b c d e f
        item   d       e       f          lengths 2 0 1 1 1 1

    Keys may have batches of different size (`stride_per_key`). Waits for the device once, to read one number for each key.

    Raises:
      TypeError: the object lacks one of these methods.
      ValueError: lengths do not cover keys times rows.
    """
    if not is_keyed_jagged(features):
        raise TypeError(f"features must have the methods {', '.join(METHODS)}; got {type(features).__name__}.")
    keys = list(features.keys())
    rows = _rows_per_key(features, len(keys))
    lengths = features.lengths().to(torch.int64)
    if len(lengths) != sum(rows):
        raise ValueError(f"lengths must have one entry a key and row = {sum(rows)}; got {len(lengths)}.")
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    values, weights = features.values(), features.weights_or_none()
    edges = torch.tensor([0, *rows]).cumsum(0)
    begins = offsets[edges.to(offsets.device)].tolist()
    found = {}
    for k, key in enumerate(keys):
        run = slice(begins[k], begins[k + 1])
        own = offsets[edges[k] : edges[k + 1] + 1] - begins[k]
        found[key] = RaggedTensor(values[run], own, weight=None if weights is None else weights[run])
    return found


def _rows_per_key(features: Any, keys: int) -> list[int]:
    if callable(getattr(features, "stride_per_key", None)):
        return list(features.stride_per_key())
    return [features.stride()] * keys
