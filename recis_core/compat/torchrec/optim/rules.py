"""Which sparse optimizer has the rule of a torch or TorchRec optimizer, and with which numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from recis_core.backends.errors import RecisError
from recis_core.nn.hash_table import HashTable
from recis_core.optim import SparseAdagrad, SparseAdam, SparseAdamW, SparseOptimizer, SparseRowWiseAdagrad, SparseSGD
from recis_core.optim.hyperparameters import as_float
from recis_core.optim.sparse_optimizer import Group

HOMES = ("torch.optim", "torchrec.optim", "recis_core.compat.torchrec.optim")


class _EpsAsTorch:
    """Adam's eps is added to √v̂, as torch and FBGEMM do, where ours is added to √v."""

    def numbers(self, group: Group, t: int) -> tuple[float, ...]:
        numbers = list(super().numbers(group, t))  # type: ignore[misc]
        numbers[5] *= math.sqrt(1 - as_float(group["betas"][1]) ** t)
        return tuple(numbers)


class TorchAdam(_EpsAsTorch, SparseAdam):
    """torch.optim.Adam on touched rows. Kingma & Ba 2015, arXiv:1412.6980, algorithm 1."""


class TorchAdamW(_EpsAsTorch, SparseAdamW):
    """torch.optim.AdamW on touched rows."""


RULES: dict[str, type[SparseOptimizer]] = {
    "SGD": SparseSGD,
    "Adagrad": SparseAdagrad,
    "RowWiseAdagrad": SparseRowWiseAdagrad,
    "Adam": TorchAdam,
    "AdamW": TorchAdamW,
}
AT_START = ("initial_accumulator_value",)  # numbers of an optimizer, not of a group


def rule_of(kind: type) -> type[SparseOptimizer]:
    """The sparse optimizer of a class of torch.optim or torchrec.optim.

    Raises:
      RecisError: there is none.
    """
    known = kind.__module__.startswith(HOMES) and kind.__name__ in RULES
    if not known:
        raise RecisError(
            f"tables have no rule of {kind.__module__}.{kind.__name__}; they have {', '.join(RULES)}, of torch.optim or "
            "torchrec.optim."
        )
    return RULES[kind.__name__]


def numbers_of(kind: type, group: Mapping[str, Any]) -> dict[str, Any]:
    """A torch group's numbers, as the sparse optimizer takes them.

    Raises:
      ValueError: Adam has an L2 penalty, which on touched rows alone would be another thing.
    """
    numbers = {name: value for name, value in group.items() if name not in ("params", "initial_lr")}
    if kind.__name__ in ("Adam", "AdamW"):
        numbers.pop("decoupled_weight_decay", None)
    if kind.__name__ == "Adam" and (numbers.get("weight_decay", 0) or group.get("decoupled_weight_decay")):
        raise ValueError(
            f"weight_decay of Adam on tables must be 0; got {numbers.get('weight_decay')}. AdamW decays rows as they are "
            "touched."
        )
    return {name: float(v) if isinstance(v, torch.Tensor) else v for name, v in numbers.items()}


def sparse_optimizer(kind: type, groups: list[tuple[HashTable, Mapping[str, Any]]]) -> SparseOptimizer:
    """One optimizer over tables, a group for each, with the numbers of its torch group; groups are in this order.

    Raises:
      RecisError, ValueError: see rule_of and numbers_of; or two tables have one name; or a number differs that all share.
    """
    rule, lines = rule_of(kind), [numbers_of(kind, group) for _, group in groups]
    names = [table.name for table, _ in groups]
    if len(set(names)) < len(names):
        raise ValueError(f"tables of one optimizer must have names of their own; got {names}.")
    start = {name: lines[0][name] for name in AT_START if name in lines[0]}
    if any(line.get(name) != value for name, value in start.items() for line in lines):
        raise ValueError(f"{', '.join(start)} must be the same for all tables of one {kind.__name__}.")
    own = [{name: value for name, value in line.items() if name not in AT_START} for line in lines]
    made = rule({names[0]: groups[0][0]}, **start, **own[0])
    for (table, _), numbers in zip(groups[1:], own[1:], strict=True):
        made.add_params({table.name: table}, **numbers)
    return made


def take_numbers(made: SparseOptimizer, kind: type, groups: list[Mapping[str, Any]]) -> None:
    """Give the optimizer's groups what torch groups say now, as LR schedulers have set them."""
    for mine, group in zip(made.param_groups, groups, strict=True):
        numbers = numbers_of(kind, group)
        mine.update({name: value for name, value in numbers.items() if name in mine})
