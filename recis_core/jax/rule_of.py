"""The rule of a table's sparse optimizer, with its numbers as they are now."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from recis_core.backends.errors import RecisError
from recis_core.jax.rules import SGD, Adagrad, Adam, AdamW, AdamWTF, RowWiseAdagrad, Rule
from recis_core.optim import (
    SparseAdagrad,
    SparseAdam,
    SparseAdamW,
    SparseAdamWTF,
    SparseOptimizer,
    SparseRowWiseAdagrad,
    SparseSGD,
)
from recis_core.optim.hyperparameters import as_float
from recis_core.table.table import Table

RULES: dict[type[SparseOptimizer], type[Rule]] = {
    SparseSGD: SGD,
    SparseAdagrad: Adagrad,
    SparseRowWiseAdagrad: RowWiseAdagrad,
    SparseAdam: Adam,
    SparseAdamW: AdamW,
    SparseAdamWTF: AdamWTF,
}


def rule_of(storage: Table) -> Rule | None:
    """None for a storage without an optimizer.

    Raises:
      RecisError: the optimizer is none of ours, or its tables in this storage are in groups of different numbers.
    """
    optimizer = storage.optimizer
    if optimizer is None:
        return None
    if type(optimizer) not in RULES:
        raise RecisError(f"{type(optimizer).__name__} has no rule in recis_core.jax. Pass rule=….")
    groups = [group for group in optimizer.param_groups if set(group["tables"]) & set(storage.names)]
    rules = {_of_group(optimizer, group, storage.spec.dim) for group in groups}
    if len(rules) > 1:
        raise RecisError(
            f"tables {', '.join(storage.names)} share one storage, and have numbers of {len(rules)} groups: {rules}. Pass the "
            "one that all are to have, rule=…."
        )
    return rules.pop()


def _of_group(optimizer: Any, group: dict[str, Any], dim: int) -> Rule:
    known = dict(group)
    if "betas" in known:
        known["beta1"], known["beta2"] = known["betas"]
    slots = optimizer.slot_specs(dim)
    known["initial_accumulator_value"] = slots[0].initial if slots else 0.0
    kind = RULES[type(optimizer)]
    return kind(**{field.name: as_float(known[field.name]) for field in fields(kind)})
