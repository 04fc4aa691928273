"""What a TrainLoop resumes from, read and checked before anything of the loop changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.optim import JointOptimizer
from recis_core.serialize.dense import check_dense_state
from recis_core.serialize.parts import naming, part_of_state
from recis_core.serialize.saved_state import SavedState
from recis_core.serialize.shared_state import by_rank

PROGRESS = ("step", "rows", "epoch", "rows_in_epoch")


@dataclass(frozen=True)
class LoopState:
    """All but tables. optimizer: None leaves the loop's optimizer as it is."""

    progress: dict[str, int]
    dense: Mapping[str, Tensor]
    optimizer: dict[str, Any] | None
    random: Tensor


def read_loop_state(state: Mapping[str, Any], model: nn.Module, optimizer: JointOptimizer, rank: int) -> LoopState:
    """Raises CorruptCheckpoint, naming the part, if one is missing or not what this model and optimizer want."""
    progress = part_of_state(state, "progress")
    with naming(state, "progress"):
        _check_progress(progress)
    dense, saved = _dense(state, model), _optimizer(state, optimizer)
    return LoopState(progress, dense, saved, _random(state, rank))


def read_learned(state: Mapping[str, Any], model: nn.Module, optimizer: JointOptimizer | None) -> LoopState:
    """What a new run takes: counts are 0, random numbers stay this process's. Raises as read_loop_state."""
    saved = None if optimizer is None else _optimizer(state, optimizer)
    return LoopState(dict.fromkeys(PROGRESS, 0), _dense(state, model), saved, torch.get_rng_state())


def _dense(state: Mapping[str, Any], model: nn.Module) -> Mapping[str, Tensor]:
    dense: Mapping[str, Tensor] = part_of_state(state, "dense")
    with naming(state, "dense"):
        check_dense_state(model, dense)
    return dense


def _optimizer(state: Mapping[str, Any], optimizer: JointOptimizer) -> dict[str, Any]:
    saved: dict[str, Any] = part_of_state(state, "optimizer")
    with naming(state, "optimizer"):
        _check_optimizer(optimizer, saved)
    # A state in memory stays the caller's.
    return saved if isinstance(state, SavedState) else _copied(saved)


def _check_progress(progress: Any) -> None:
    fits = isinstance(progress, Mapping) and set(progress) == set(PROGRESS)
    if not fits or not all(type(n) is int and 0 <= n < 2**63 for n in progress.values()):
        raise ValueError(f"progress must be counts {', '.join(PROGRESS)}; got {str(progress)[:200]}.")


def _random(state: Mapping[str, Any], rank: int) -> Tensor:
    names = by_rank(state, "random") or ["random"]
    name = names[min(rank, len(names) - 1)]
    saved = part_of_state(state, name)
    with naming(state, name):
        random = saved["torch"]
        try:
            torch.Generator().set_state(random)
        except RuntimeError as error:
            raise ValueError(f"it holds no state of torch's random numbers: {error}") from error
    return random


def _check_optimizer(optimizer: JointOptimizer, saved: Any) -> None:
    """Check what torch's optimizers, and ours, load unchecked."""
    if not isinstance(saved, Mapping) or set(saved) != {"dense", "sparse"}:
        raise ValueError("an optimizer's state holds dense and sparse.")
    dense, sparse = saved["dense"], saved["sparse"]
    for where, groups in (("dense", dense["param_groups"]), ("sparse", sparse["param_groups"])):
        for group in groups:
            for name, value in group.items():
                _check_finite(f"{name} of the {where} optimizer", value)
    _check_counts(sparse)
    parameters = [p for group in optimizer.dense.param_groups for p in group["params"]]
    plain = type(optimizer.dense).__module__.startswith("torch.optim")
    for index, slots in dense["state"].items():
        if type(index) is not int or not 0 <= index < len(parameters):
            raise ValueError(f"it has slots of parameter {index!r}; there are {len(parameters)}.")
        for name, value in slots.items():
            _check_slot(f"slot {name!r} of parameter {index}", value, parameters[index], plain)


def _check_finite(name: str, value: Any) -> None:
    for number in value if isinstance(value, list | tuple) else [value]:
        if isinstance(number, Tensor) and number.is_floating_point():
            number = number.sum().item()
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError(f"{name} must be finite; got {value}.")


def _check_counts(sparse: Any) -> None:
    counts = [*sparse["t"].values(), sparse["grad_accum_steps"] - 1]
    if not all(type(t) is int and 0 <= t < 2**63 for t in counts):
        raise ValueError(f"t and grad_accum_steps must count steps; got {str(sparse['t'])[:200]}, {counts[-1] + 1}.")


def _check_slot(name: str, value: Any, parameter: Tensor, plain: bool) -> None:
    """A slot of torch's optimizers is a number, or has the parameter's shape, or 1 in some of its dimensions."""
    if not isinstance(value, Tensor):
        return _check_finite(name, value)
    fits = value.dim() == parameter.dim() and all(
        a in (1, b) for a, b in zip(value.shape, parameter.shape, strict=True)
    )
    if plain and not (fits or value.numel() == 1):
        raise ValueError(f"{name} has shape {tuple(value.shape)}; wanted {tuple(parameter.shape)}.")
    return None


def _copied(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.clone()
    if isinstance(tree, Mapping):
        return {name: _copied(value) for name, value in tree.items()}
    return type(tree)(map(_copied, tree)) if type(tree) in (list, tuple) else tree


class Changes:
    stay = False


@contextmanager
def put_back_on_error(optimizer: JointOptimizer) -> Iterator[Changes]:
    """Put both optimizers' states back if the block raises before it sets `changes.stay`."""
    dense, sparse, changes = optimizer.dense, optimizer.sparse.state_dict(), Changes()
    before = {"state": dense.state, "param_groups": dense.param_groups}
    try:
        yield changes
    except BaseException:
        if not changes.stay:
            dense.__dict__.update(before)
            optimizer.sparse.load_state_dict(sparse)
        raise
