"""Steps of tables at the end of a backward.

A step waits for the backward's end: the tables' gradients are complete there, and each table steps once a backward, however
often the graph looks it up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Variable

from recis_core.backends.errors import RecisError
from recis_core.compat.torchrec.modules.table_parameter import TableParameter
from recis_core.compat.torchrec.optim.rules import sparse_optimizer, take_numbers
from recis_core.optim import SparseOptimizer

Made = tuple[SparseOptimizer, type, list[Mapping[str, Any]]]


class InBackward:
    """The optimizers of one collection's tables; none, if no table has one in backward."""

    def __init__(self) -> None:
        self.made: list[Made] = []
        self._prepared: set[str] = set()
        self._task = -1

    def prepare(self, parameters: Sequence[TableParameter]) -> None:
        """Make the optimizers that were asked for since the last call.

        Raises:
          RecisError: a table has two, or shares storage with a table that has another or none.
        """
        waiting = [
            p for p in parameters if hasattr(p, "_in_backward_optimizers") and p.table.name not in self._prepared
        ]
        if not waiting:
            return
        for parameter in waiting:
            _require_alone(parameter, parameters)
        kinds: dict[type, list[TableParameter]] = {}
        for parameter in waiting:
            kinds.setdefault(parameter._optimizer_classes[0], []).append(parameter)  # type: ignore[attr-defined]
        self.made += [self._made(kind, mine) for kind, mine in kinds.items()]
        self._prepared |= {parameter.table.name for parameter in waiting}

    def _made(self, kind: type, parameters: list[TableParameter]) -> Made:
        # torch's optimizer is never stepped: LR schedulers and users set numbers in its group.
        groups = [_group_of(parameter) for parameter in parameters]
        made = sparse_optimizer(kind, [(p.table, group) for p, group in zip(parameters, groups, strict=True)])
        return made, kind, groups

    def watch(self, outputs: Sequence[Tensor]) -> None:
        """Step when a backward through any of these outputs has ended."""
        if self.made:
            for output in outputs:
                if output.requires_grad:
                    output.register_hook(self._seen)

    def _seen(self, gradient: Tensor) -> None:
        task = torch._C._current_graph_task_id()
        if task != self._task:
            self._task = task
            Variable._execution_engine.queue_callback(self._at_the_end)

    def _at_the_end(self) -> None:
        """Queue the step behind the callbacks that bring tables their gradients, which may have been queued later."""
        Variable._execution_engine.queue_callback(self.step)

    def step(self) -> None:
        """Step tables with a gradient; on several ranks all tables, for that is collective."""
        for made, kind, groups in self.made:
            tables = made._physical()
            if any(table.has_gradient or table.exchange is not None for table in tables):
                take_numbers(made, kind, groups)
                made.step()


def _group_of(parameter: Any) -> Mapping[str, Any]:
    """The group of the torch optimizer that was made; the arguments, where TorchRec's placeholders have no group."""
    groups = getattr(parameter._in_backward_optimizers[0], "param_groups", None)
    found: Mapping[str, Any] = groups[0] if groups else parameter._optimizer_kwargs[0]
    return found


def _require_alone(parameter: TableParameter, parameters: Sequence[TableParameter]) -> None:
    kinds = parameter._optimizer_classes  # type: ignore[attr-defined]
    table = parameter.table
    if len(kinds) > 1:
        raise RecisError(f"table {table.name!r} can have one optimizer; it was given {len(kinds)} in backward.")
    for other in parameters:
        theirs = getattr(other, "_optimizer_classes", [None])[0]
        if other.table.physical is table.physical and theirs is not kinds[0]:
            raise RecisError(
                f"tables {table.name!r} and {other.table.name!r} share storage, and have optimizers of different kinds, "
                f"{kinds[0].__name__} and {getattr(theirs, '__name__', None)}. Give one of them storage of its own: "
                f"EmbeddingBagCollection(…, table_options={{{table.name!r}: {{'storage': 'own'}}}})."
            )
