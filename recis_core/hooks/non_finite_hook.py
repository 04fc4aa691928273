"""Gradients that are not finite, named before a step applies them."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

from recis_core.backends.errors import NonFiniteGradient
from recis_core.exchange.gathering import gathered_json
from recis_core.hooks.features_seen import FeaturesSeen
from recis_core.hooks.hook import Hook
from recis_core.hooks.non_finite import NonFinite, find_non_finite, values_of
from recis_core.hooks.run import Batch, Run
from recis_core.nn import HashTable, filter_out_sparse_param
from recis_core.nn.hash_table import exchange_of
from recis_core.plain_torch import in_plain_torch, without_gradients
from recis_core.table.exchange_interface import Exchange
from recis_core.table.table import Table

LOG = logging.getLogger(__name__)


class NonFiniteHook(Hook):
    """Names the tables, features and ids, and the dense parameters, whose gradient holds NaN or inf, before a step.

    Each step reads one number for the tables, which the optimizer needs anyway, and sums of the dense gradients.
    Gradients are searched only where those say so. With several ranks all name what any of them has.

    Args:
      raises: whether to raise; False logs a warning on the first rank and goes on. Use that beside a GradScaler, which
        finds such steps to set its scale, and skips them; without one the optimizer refuses the step if a table's gradient
        is not finite.

    Raises:
      NonFiniteGradient: after a backward; nothing was changed.
    """

    def __init__(self, *, raises: bool = True) -> None:
        self.raises = raises
        self._tables: dict[str, HashTable] = {}
        self._storages: list[Table] = []
        self._exchange: Exchange | None = None
        self._seen: FeaturesSeen | None = None

    def before_train(self, run: Run) -> None:
        self.end(run)
        self._tables = filter_out_sparse_param(run.model)
        self._storages = list(dict.fromkeys(table.physical for table in self._tables.values()))
        self._exchange = exchange_of(run.model)
        self._seen = FeaturesSeen(run.model)

    def before_step(self, run: Run, batch: Batch) -> None:
        if self._seen is None:  # a loop that calls the steps alone
            self.before_train(run)

    def after_backward(self, run: Run) -> None:
        if self._seen is None:
            return
        try:
            found = NonFinite() if self._finite(run) else self._found(run, self._seen)
        finally:
            self._seen.forget()
        if found:  # else all is finite, or a sum overflowed and no value is wrong
            self._tell(run, found)

    def _tell(self, run: Run, found: NonFinite) -> None:
        said = f"the gradient of step {run.step + 1} is not finite: {found}."
        if self.raises:
            raise NonFiniteGradient(
                f"{said} Nothing was changed. Look at the batch's values and labels, lower lr, or clip gradients; beside a "
                "GradScaler, which skips such steps, use NonFiniteHook(raises=False)."
            )
        if run.rank == 0:
            LOG.warning("%s", said)

    @without_gradients
    @in_plain_torch
    def _finite(self, run: Run) -> bool:
        """The same on all ranks of an exchange."""
        finite = all(storage.measure().finite for storage in self._storages)
        if self._exchange is None:
            return finite and _dense_finite(run)
        return finite and all(storage.flags()[1] for storage in self._storages)

    @without_gradients
    @in_plain_torch
    def _found(self, run: Run, seen: FeaturesSeen) -> NonFinite:
        found = find_non_finite(run.model, self._tables, seen.of)
        if self._exchange is None:
            return found
        return NonFinite.of_ranks(gathered_json(self._exchange.channel, found.plain(), kind="hook"))

    def end(self, run: Run) -> None:
        seen, self._seen = self._seen, None
        if seen is not None:
            seen.close()


def _dense_finite(run: Run) -> bool:
    """By sums; False also where a sum alone overflows."""
    grads: list[Tensor] = [
        values_of(p.grad) for group in run.optimizer.dense.param_groups for p in group["params"] if p.grad is not None
    ]
    if all(grad.device.type == "cpu" for grad in grads):
        return math.isfinite(sum(float(grad.sum()) for grad in grads))
    return bool(torch.nn.utils.get_total_norm(grads).isfinite())  # waits for the device once
