"""Many features at once: step k of all before step k + 1 of any, all ops of a class in a step in one call.

step 0    SelectField of a, b, c     │  SelectFields of d
step 1    Hash of a, b               │  FeatureCross of d         │  Bucketize of c
step 2    Mod of a, d                │
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from recis_core.features.feature import NAMED, naming, raise_naming
from recis_core.features.op import Op


@dataclass(frozen=True)
class Call:
    """Ops of one class, each of another feature."""

    op_class: type[Op]
    features: tuple[str, ...]
    ops: tuple[Op, ...]

    def run(self, values: dict[str, Any]) -> None:
        """Replace the features' values by the results."""
        inputs = [values[name] for name in self.features]
        for name, op, value in zip(self.features, self.ops, inputs, strict=True):
            try:
                op.check(value)
            except NAMED as error:
                raise_naming(error, [name], op)
        with naming(list(self.features), self.ops[0]):
            results = self.op_class.run(self.ops, inputs)
        values.update(zip(self.features, results, strict=True))


def calls_of(steps: Mapping[str, Sequence[Op]]) -> list[Call]:
    """The calls that make features of these ops, in order."""
    calls = []
    for k in range(max(map(len, steps.values()), default=0)):
        groups: dict[type[Op], list[tuple[str, Op]]] = {}
        for name, ops in steps.items():
            if k < len(ops):
                groups.setdefault(type(ops[k]), []).append((name, ops[k]))
        for op_class, members in groups.items():
            names, ops = zip(*members, strict=True)
            calls.append(Call(op_class, names, ops))
    return calls


def run_calls(calls: Sequence[Call], names: Sequence[str], data: Mapping[str, Any]) -> dict[str, Any]:
    """The results by feature, in the order of names."""
    values: dict[str, Any] = dict.fromkeys(names, data)
    for call in calls:
        call.run(values)
    return values


RUN = [run_calls]  # what engines call


@cache
def keep_out_of_graphs() -> None:
    """From now on torch.compile leaves features alone and compiles what is around them.

    Called when an engine is made: as a decorator torch.compiler.disable would import torch's compiler with the package,
    which takes over a second; and an engine that held the function could not be pickled.
    """
    RUN[0] = torch.compiler.disable(run_calls)
