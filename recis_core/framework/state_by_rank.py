"""What each rank has for itself, as bytes that every rank can hold: a checkpoint keeps what is equal on all ranks.

Sizes: W ranks.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from recis_core.framework.ranks import Ranks
from recis_core.serialize.tree import declared_tensors, join_tensors, split_tensors

TREE = "tree"


def gather_states(state: Any, ranks: Ranks) -> list[Tensor]:
    """Each rank's state, uint8 [bytes], equal on all ranks. state: nested values and tensors. Collective."""
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(split_tensors(state, tensors)).encode()
    parts = {TREE: torch.frombuffer(bytearray(tree), dtype=torch.uint8)}
    parts |= {f"{TREE}{path}": tensor.detach().cpu().contiguous().clone() for path, tensor in tensors.items()}
    return ranks.gathered(torch.frombuffer(bytearray(save(parts)), dtype=torch.uint8), "save")


def state_of(packed: Tensor) -> Any:
    """Raises ValueError if these are no bytes of gather_states."""
    try:
        parts = load(packed.cpu().numpy().tobytes())
        tree = json.loads(parts.pop(TREE).numpy().tobytes())
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"a rank's own state cannot be read: {error}") from error
    tensors = {path.removeprefix(TREE): tensor for path, tensor in parts.items()}
    if set(declared_tensors(tree)) != set(tensors):
        raise ValueError("a rank's own state cannot be read: its tensors are not those that it names.")
    return join_tensors(tree, tensors)
