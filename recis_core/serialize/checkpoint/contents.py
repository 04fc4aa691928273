"""What a manager saves beside rows of tables: each thing under a name, as values that a part can hold.

tables/NAME   dense/PARAMETER   optimizer/dense   optimizer/sparse   data   random   features   schedulers/NAME   extra/NAME
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recis_core.nn.hash_table import HashTable, filter_out_sparse_param
from recis_core.optim import JointOptimizer
from recis_core.optim.sparse_optimizer import SparseOptimizer
from recis_core.serialize.dense import dense_state, plain_name

TYPES = "model=, optimizer=, data=, features=, schedulers= and objects with state_dict and load_state_dict"


@dataclass(frozen=True)
class Contents:
    """model: its tables and its dense side. Everything but the model may be None or empty.

    data: this rank's reader. features: a FeatureEngine. extra: objects whose states are equal on all ranks.
    """

    model: nn.Module
    optimizer: Any = None
    data: Any = None
    features: Any = None
    schedulers: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise TypeError(
                f"model must be a torch.nn.Module; got {type(self.model).__name__}. register takes {TYPES}."
            )
        for name, each in {"optimizer": self.optimizer, "data": self.data, **self.schedulers, **self.extra}.items():
            if each is not None and not (hasattr(each, "state_dict") and hasattr(each, "load_state_dict")):
                raise TypeError(f"{name} must have state_dict and load_state_dict; got {type(each).__name__}.")
        if self.features is not None and not hasattr(self.features, "get_extra_state"):
            raise TypeError(f"features must be a FeatureEngine; got {type(self.features).__name__}.")

    @property
    def tables(self) -> dict[str, HashTable]:
        return filter_out_sparse_param(self.model)

    @property
    def sides(self) -> dict[str, Any]:
        """The optimizer's sides: dense, sparse, or both."""
        if isinstance(self.optimizer, JointOptimizer):
            return {"dense": self.optimizer.dense, "sparse": self.optimizer.sparse}
        if self.optimizer is None:
            return {}
        return {"sparse" if isinstance(self.optimizer, SparseOptimizer) else "dense": self.optimizer}

    def dense(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers by the names that they have in an unwrapped model."""
        return {plain_name(name): value for name, value in dense_state(self.model).items()}

    def names(self) -> list[str]:
        """All that a checkpoint holds of it."""
        found = [f"tables/{name}" for name in self.tables] + [f"dense/{name}" for name in self.dense()]
        found += [f"optimizer/{side}" for side in self.sides]
        found += [name for name in ("data", "features") if getattr(self, name) is not None] + ["random"]
        found += [f"schedulers/{name}" for name in self.schedulers] + [f"extra/{name}" for name in self.extra]
        return found

    def shared(self) -> dict[str, Any]:
        """Parts that are equal on all ranks, as they are; tensors are not copied."""
        parts: dict[str, Any] = {"dense": self.dense()}
        if self.sides:
            parts["optimizer"] = {side: each.state_dict() for side, each in self.sides.items()}
        if self.features is not None:
            parts["features"] = {"definition": self.features.get_extra_state(), "digest": self.features.digest()}
        if self.schedulers:
            parts["schedulers"] = {name: each.state_dict() for name, each in self.schedulers.items()}
        if self.extra:
            parts["extra"] = {name: each.state_dict() for name, each in self.extra.items()}
        return parts

    def own(self) -> dict[str, Any]:
        """This rank's own parts."""
        data = {} if self.data is None else {"data": self.data.state_dict()}
        return {"random": random_state(), **data}


def random_state() -> dict[str, Any]:
    """The states of torch's, Python's and NumPy's global generators, and of CUDA's where it is in use."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    state = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def check_random(state: Any) -> None:
    """Raises ValueError, TypeError, KeyError or RuntimeError unless set_random_state takes the state."""
    torch.Generator().set_state(state["torch"])
    random.Random().setstate(state["python"])
    np.random.RandomState().set_state(_numpy(state))


def set_random_state(state: Mapping[str, Any]) -> None:
    """CUDA's is set where there are as many devices."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    np.random.set_state(_numpy(state))
    cuda = state.get("cuda", [])
    if cuda and torch.cuda.is_available() and torch.cuda.device_count() == len(cuda):
        torch.cuda.set_rng_state_all(cuda)


def _numpy(state: Mapping[str, Any]) -> tuple[Any, ...]:
    kind, keys, *rest = state["numpy"]
    return (kind, keys.numpy().astype(np.uint32), *rest)
