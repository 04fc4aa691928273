"""Tables in state dicts, which hold them by name beside tensors."""

from __future__ import annotations

from typing import Any

from torch import nn


def is_hashtable(obj: object) -> bool:
    """Whether it is what a state dict holds of a table."""
    return hasattr(obj, "hashtable_tag")


def split_sparse_dense_state_dict(state_dict: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """({name: table}, the rest); the tables are taken out of state_dict, which is the rest."""
    sparse = {name: value for name, value in state_dict.items() if is_hashtable(value)}
    for name in sparse:
        del state_dict[name]
    return sparse, state_dict


def filter_out_sparse_param(model: nn.Module) -> dict[str, Any]:
    """{name: table} of all tables in a model: what sparse optimizers take."""
    return split_sparse_dense_state_dict(model.state_dict())[0]
